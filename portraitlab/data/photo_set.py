"""Photos with their features, and the batches gathered from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from portraitlab.data.features import FeatureStore
from portraitlab.data.photos import Members, Photos, members_of
from portraitlab.faces.alignment import face_boxes, face_crops
from portraitlab.faces.regions import HEAD, box_regions
from portraitlab.method.select.selection import FaceQuality
from portraitlab.types import Batch, Pictures

_BATCH = 64


@dataclass(frozen=True)
class PhotoSet:
    """Photos with their features, restricted to some identities.

    identities: those that this use (training or scoring) may take. reference_latents: add the
    references' latents to batches, for a net that reads them. wants: optional fields of Batch to
    fill, those that the model and the objective's terms want.

    Raises ValueError for a field that no source has.
    """

    store: Photos
    features: FeatureStore
    identities: tuple[str, ...]
    reference_latents: bool = False
    wants: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.wants - {"face_mask", "pictures"}:
            raise ValueError(
                f"A part of the method wants {', '.join(sorted(unknown))} of a batch, and photos "
                "have face_mask and pictures only; see its `wants`."
            )

    def rows(self) -> dict[str, list[int]]:
        """Return the rows of each identity's photos, in the store's order."""
        members = self.members()
        parts = np.split(members.rows, members.counts.cumsum()[:-1])
        return {name: part.tolist() for name, part in zip(members.names, parts, strict=False)}

    def members(self) -> Members:
        """Return the photos of each identity as arrays."""
        return members_of(self.store, self.identities)

    @torch.no_grad()
    def quality(self, model: FaceQuality, rows: Tensor) -> Tensor:
        """Score the aligned faces of photos, rows [B, N], by a model: [B, N] in [0, 1].

        Scores are not cached: all references of a scoring take a second.
        """
        scores = [self._quality(model, part) for part in rows.flatten().split(_BATCH)]
        return torch.cat(scores).view(rows.shape)

    def _quality(self, model: FaceQuality, rows: Tensor) -> Tensor:
        points = self.features.geometry[rows].keypoints
        return face_quality(model, self.store.views(rows), points)

    def gather(
        self,
        targets: Tensor,
        references: Tensor,
        mask: Tensor,
        shape_rows: Tensor,
        without_prompt: Tensor,
        seeds: Tensor,
    ) -> Batch:
        """Make the batch of samples by rows of targets [B] and references [B, N].

        mask bool [B, N]: False for an empty reference slot. shape_rows [B]: the photos whose 3D
        shape draws the landmarks, and which are laid beside the target. without_prompt bool [B]:
        True to use the empty prompt in place of the caption. seeds [B] long: of what is drawn at
        random when the batch is used.

        Of pictures of several people, targets and shape_rows are [B, P], references and mask
        [B, P, N]; all references of a person who is not there are masked.
        """
        features = self.features
        if targets.dim() == 2:
            return self._gather_people(targets, references, mask, shape_rows, without_prompt, seeds)
        latents = features.latents[targets]
        return Batch(
            latents=latents,
            text=features.empty_text.where(without_prompt, features.text(targets)),
            references=features.references(references, mask, self.reference_latents),
            shape_geometry=features.geometry[shape_rows],
            target_geometry=features.geometry[targets],
            identity=features.mean_identity(references, mask),
            person=features.person[targets],
            target_index=targets,
            face_mask=self._face_mask(targets, latents) if "face_mask" in self.wants else None,
            pictures=(
                self._pictures(targets, shape_rows, ~without_prompt, seeds)
                if "pictures" in self.wants
                else None
            ),
        )

    def _gather_people(
        self,
        targets: Tensor,
        references: Tensor,
        mask: Tensor,
        shape_rows: Tensor,
        without_prompt: Tensor,
        seeds: Tensor,
    ) -> Batch:
        """Make a batch of pictures of several people, each of whose rows has the picture."""
        there = mask.any(dim=-1)
        first = self.gather(
            targets[:, 0], references[:, 0], mask[:, 0], shape_rows[:, 0], without_prompt, seeds
        )
        geometry = self.features.geometry[targets]
        geometry = replace(geometry, score=geometry.score * there)
        size = (first.latents.shape[-2], first.latents.shape[-1])
        person = self.features.person[targets] * there[..., None, None, None]
        return replace(
            first,
            references=self.features.references(references, mask, self.reference_latents),
            shape_geometry=self.features.geometry[shape_rows],
            target_geometry=geometry,
            identity=self.features.mean_identity(references, mask),
            person=person.sum(dim=1).clamp(max=1),
            regions=box_regions(face_boxes(geometry.keypoints, HEAD), there, size),
        )

    def _pictures(
        self, targets: Tensor, profiles: Tensor, prompted: Tensor, seeds: Tensor
    ) -> Pictures:
        """Read the pixels of targets and profiles [B]."""
        return Pictures(
            style=self.store.images(targets),
            profile=self.store.images(profiles),
            latents=self.features.latents[profiles],
            person=self.features.person[profiles],
            prompted=prompted,
            seed=seeds,
        )

    def _face_mask(self, rows: Tensor, latents: Tensor) -> Tensor:
        """Average the face masks of photos [B] over the cells of their latents: [B, h, w]."""
        masks = self.features.face_masks[rows].float()
        return adaptive_avg_pool2d(masks, (latents.shape[-2], latents.shape[-1]))


def face_quality(model: FaceQuality, views: Tensor, keypoints: Tensor) -> Tensor:
    """Score the faces in views [B, 3, V, V] by a model: [B] in [0, 1].

    keypoints [B, 5, 2]: the faces' keypoints.
    """
    return model(face_crops(views, keypoints, model))
