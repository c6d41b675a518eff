"""Faults to plant in the inputs of a trained model, to check that the metrics react.

A metric that does not change when the references show somebody else measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import Sample
from portraitlab.method.model import PortraitModel
from portraitlab.types import Batch, FaceFeatures, IdentityTokens


class Fault:
    """A fault in the references or landmarks of samples, or inside the model.

    moves: metrics that should get worse; the others should stay.
    """

    def __init__(self, moves: Sequence[str]) -> None:
        self.moves = tuple(moves)

    def change(
        self, batch: Batch, samples: Sequence[Sample], photos: PhotoSet, frozen: Frozen
    ) -> Batch:
        """Return the batch with the fault, unchanged where the fault is in the model."""
        return batch

    @contextmanager
    def planted(self, model: PortraitModel) -> Iterator[None]:
        """Keep the fault in the model during the context; do nothing where it is in the batch."""
        yield


class WrongPerson(Fault):
    """A fault: all references show the next identity of the batch."""

    def change(
        self, batch: Batch, samples: Sequence[Sample], photos: PhotoSet, frozen: Frozen
    ) -> Batch:
        """Give each identity the references of the next one."""
        return replace(batch, references=batch.references[next_identity(samples)])


class OneWrong(Fault):
    """A fault: the first reference of each sample shows the next identity of the batch."""

    def change(
        self, batch: Batch, samples: Sequence[Sample], photos: PhotoSet, frozen: Frozen
    ) -> Batch:
        """Replace the first references by those of the next identity."""
        following = next_identity(samples)
        own, other = batch.references, batch.references[following]

        def first_of_other(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.cat([theirs[:, :1], mine[:, 1:]], dim=1)

        mixed = replace(
            own,
            local_=first_of_other(own.local_, other.local_),
            global_=first_of_other(own.global_, other.global_),
            latents=(
                None
                if own.latents is None or other.latents is None
                else first_of_other(own.latents, other.latents)
            ),
        )
        return replace(batch, references=mixed)


class Blurred(Fault):
    """A fault: all references are blurred before encoding; deviation in image fractions."""

    def __init__(self, moves: Sequence[str], deviation: float = 0.05) -> None:
        super().__init__(moves)
        self.deviation = deviation

    def change(
        self, batch: Batch, samples: Sequence[Sample], photos: PhotoSet, frozen: Frozen
    ) -> Batch:
        """Encode blurred references, with the keypoints of the sharp ones."""
        rows = torch.tensor([sample.references for sample in samples])
        flat = rows.flatten()
        views = blur(photos.store.views(flat), self.deviation).to(frozen.device)
        masks = photos.store.person_masks(flat).to(frozen.device)
        geometry = photos.features.geometry[flat].to(frozen.device)
        local, global_ = frozen.encoder.encode(views, masks, geometry)
        features = FaceFeatures(
            local.cpu().unflatten(0, rows.shape),
            global_.cpu().unflatten(0, rows.shape),
            batch.references.mask,
        )
        if batch.references.latents is not None:
            images = blur(photos.store.images(flat), self.deviation).to(frozen.device)
            latents = frozen.backbone.encode(images).cpu().unflatten(0, rows.shape)
            features = replace(features, latents=latents)
        return replace(batch, references=features)


class WrongExpression(Fault):
    """A fault: landmarks in the target's pose, with the next identity's target's expression."""

    def change(
        self, batch: Batch, samples: Sequence[Sample], photos: PhotoSet, frozen: Frozen
    ) -> Batch:
        """Replace the targets' expressions by those of the next identity."""
        geometry = batch.target_geometry
        own = geometry.coefficients
        if own is None:
            raise ValueError("wrong_expression needs a 3DMM's coefficients, and there are none")
        made = replace(own, expression=own.expression[next_identity(samples)])
        return replace(batch, target_geometry=replace(geometry, coefficients=made))


class ShuffledTokens(Fault):
    """A fault: neighbouring identity tokens come from different samples of the batch."""

    @contextmanager
    def planted(self, model: PortraitModel) -> Iterator[None]:
        """Shuffle the output of the fusion during the context."""

        def shuffle(fusion: nn.Module, given: Any, tokens: IdentityTokens) -> IdentityTokens:
            count, length = tokens.mask.shape
            source = (torch.arange(count)[:, None] + 1 + torch.arange(length)) % count
            place = torch.arange(length).expand_as(source)
            return IdentityTokens(tokens.tokens[source, place], tokens.mask[source, place])

        handle = model.fusion.register_forward_hook(shuffle)
        try:
            yield
        finally:
            handle.remove()


def next_identity(samples: Sequence[Sample]) -> Tensor:
    """Return for each sample the index [B] of the first sample of the batch's next identity.

    Raises ValueError where all samples show one identity.
    """
    first: dict[str, int] = {}
    for number, sample in enumerate(samples):
        first.setdefault(sample.identity, number)
    names = list(first)
    if len(names) == 1:
        raise ValueError(
            f"all {len(samples)} samples of a batch show identity {names[0]}; planted faults need "
            "two identities in a batch, so raise scale.score_batch_size"
        )
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return torch.tensor([first[following[sample.identity]] for sample in samples])


def blur(images: Tensor, deviation: float) -> Tensor:
    """Blur images [B, C, S, S] by a Gaussian; deviation in image fractions."""
    place = torch.arange(images.shape[-1], device=images.device)
    distance = (place[:, None] - place) / (deviation * images.shape[-1])
    weights = torch.softmax(-0.5 * distance.square(), dim=1)
    return weights @ images @ weights.T
