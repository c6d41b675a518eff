"""Draw portraits of held-out people, each from its own noise seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import Sample, ScoringSet, picture_places
from portraitlab.method.cond.none import NoCond
from portraitlab.method.customise.base import Customisation
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.none import NoNet
from portraitlab.method.sampler.base import Sampler
from portraitlab.scoring.pictures import Shown
from portraitlab.support.hashes import tensors_digest
from portraitlab.support.precision import computing_in, frozen_precision
from portraitlab.support.side_by_side import side_by_side
from portraitlab.support.tensor_cache import cached_tensors
from portraitlab.types import Batch

SHOWN = 6
"""Number of people in a picture grid."""


@dataclass(frozen=True)
class Portraits:
    """Drawn images [D, 3, H, W] and the batch [D] that they were drawn from, on the CPU.

    samples: S, one for each person of each image.
    """

    images: Tensor
    batch: Batch
    samples: Sequence[Sample]

    @property
    def place(self) -> Tensor:
        """Number of the image of each sample [S]."""
        return torch.tensor(picture_places(self.samples))


def portrait_files(samples: Sequence[Sample]) -> list[str]:
    """Name the file of each picture by its number and its people, such as 0000-310000.png."""
    people: dict[int, list[str]] = {}
    for place, sample in zip(picture_places(samples), samples, strict=True):
        people.setdefault(place, []).append(sample.identity)
    return [f"{number:04d}-{'-'.join(names)}.png" for number, names in people.items()]


Change = Callable[[Batch, Sequence[Sample]], Batch]
"""A function that changes a batch before it is drawn."""


@torch.inference_mode()
def draw(
    model: PortraitModel,
    sampler: Sampler,
    scoring: ScoringSet,
    batch_size: int,
    device: torch.device,
    count: int | None = None,
    change: Change | None = None,
    *,
    precision: str,
    cache: Path | None = None,
    customise: Customisation | None = None,
) -> Portraits:
    """Draw the first `count` pictures of a scoring set, or all, each from its own noise seed.

    change: plants a fault in every batch of one-person pictures, to test that the metrics detect
    it. precision: see frozen_precision. cache: folder for the latents of control images, shared
    with other runs. customise: trains a copy of the model for each person; None draws all with the
    same weights.
    """
    from rich.progress import track

    model.eval()
    pictures = scoring.pictures()[:count]
    count = len(pictures)
    rounds = math.ceil(count / batch_size)

    # Cut the last batch to `count`, and apply the change.
    def parts() -> Iterator[tuple[Batch, Sequence[Sample]]]:
        left = count
        for batch, samples in islice(scoring.batches(batch_size), rounds):
            batch, samples = batch[:left], samples[:left]
            left -= len(samples)
            if change is not None:
                with computing_in(precision, device):
                    batch = change(batch, samples)
            yield batch, samples

    # Sample a batch, with its control images from the cache.
    def drawn(part: tuple[Batch, Sequence[Sample]]) -> tuple[Tensor, Batch]:
        batch, samples = part
        seeds = [sample.seed for sample in samples]
        given = batch.to(device)
        if cache is not None:
            given = replace(given, drawing=_drawing(model, given, cache / "drawings", precision))
        if customise is None or not customise.changes:
            return sampler.sample(model, given, seeds).cpu(), batch
        images, own, trained = [], model, None
        for row, sample in enumerate(samples):
            one = given[[row]]
            # Side by side the profile is learnt, otherwise all references.
            pair = model.transform.side_by_side
            photos = (sample.shape_reference,) if pair else sample.references
            if photos != trained:
                own, trained = customise(model, one), photos
            images.append(sampler.sample(own, one, [sample.seed]))
        return torch.cat(images).cpu(), batch

    with sampler.ready(model.backbone):
        model = model.for_drawing()
        done = side_by_side(drawn, parts(), device, precision)
        images, batches = zip(*track(done, "Drawing portraits", total=rounds), strict=True)
    samples = [sample for people in pictures for sample in people]
    return Portraits(torch.cat(images), Batch.cat(batches), samples)


def backbone_alone(model: PortraitModel) -> PortraitModel:
    """Return a model with the same backbone and no net, which draws from the prompt alone."""
    return PortraitModel(
        model.backbone,
        NoFusion(local_dim=0, global_dim=0, dim=0),
        NoCond(),
        NoNet(model.backbone, control=False, identity=False),
    )


def _drawing(model: PortraitModel, batch: Batch, folder: Path, precision: str) -> Tensor | None:
    """Compute the control images of a batch as the net reads them; latents are cached."""
    image = model.control_image(batch.shape_geometry, batch.target_geometry, batch.pictures)
    if image is None or model.net.pixels:
        return image
    backbone = model.backbone
    about = [backbone.fingerprint, frozen_precision(precision, image.device)]
    found = cached_tensors(
        folder,
        ["drawing", tensors_digest(image), *about],
        lambda: {"latents": backbone.encode(image).float().cpu()},
    )
    return found["latents"].to(image.device)


def show_samples(portraits: Portraits, photos: PhotoSet, model: PortraitModel) -> list[Shown]:
    """Return the images of one sample of each of the first SHOWN identities."""
    first: dict[str, int] = {}
    for number, sample in enumerate(portraits.samples):
        first.setdefault(sample.identity, number)
    chosen = list(first.values())[:SHOWN]
    pictures = portraits.place[chosen]
    batch = portraits.batch[pictures]
    device = next(model.backbone.parameters()).device
    with torch.inference_mode():
        there = batch.to(device)
        control = model.control_image(there.shape_geometry, there.target_geometry, there.pictures)
    return [
        Shown(
            identity=portraits.samples[number].identity,
            references=tuple(photos.store.images(list(portraits.samples[number].references))),
            control=None if control is None else control[place].cpu(),
            generated=portraits.images[int(pictures[place])],
            target=photos.store.images([portraits.samples[number].target])[0],
        )
        for place, number in enumerate(chosen)
    ]
