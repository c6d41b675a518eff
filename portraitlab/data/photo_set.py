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
        geometry = self.features.geometry
        scores = [
            face_quality(model, self.store.views(part), geometry[part].keypoints)
            for part in rows.flatten().split(_BATCH)
        ]
        return torch.cat(scores).view(rows.shape)

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
        features, several = self.features, targets.dim() == 2
        rows = targets[:, 0] if several else targets  # any of the people's has the picture
        latents = features.latents[rows]
        size = (latents.shape[-2], latents.shape[-1])
        # Read the fields that only some methods want.
        pictures = face_mask = None
        if "pictures" in self.wants:
            profiles = shape_rows[:, 0] if several else shape_rows
            pictures = Pictures(
                style=self.store.images(rows),
                profile=self.store.images(profiles),
                latents=features.latents[profiles],
                person=features.person[profiles],
                prompted=~without_prompt,
                seed=seeds,
            )
        if "face_mask" in self.wants:
            face_mask = adaptive_avg_pool2d(features.face_masks[rows].float(), size)
        batch = Batch(
            latents=latents,
            text=features.empty_text.where(without_prompt, features.text(rows)),
            references=features.references(references, mask, self.reference_latents),
            shape_geometry=features.geometry[shape_rows],
            target_geometry=features.geometry[targets],
            identity=features.mean_identity(references, mask),
            person=features.person[targets],
            target_index=rows,
            face_mask=face_mask,
            pictures=pictures,
        )
        if not several:
            return batch
        # Leave out people who are not there, and give each person a region of the picture.
        there = mask.any(dim=-1)
        geometry = batch.target_geometry
        person = batch.person * there[..., None, None, None]
        return replace(
            batch,
            target_geometry=replace(geometry, score=geometry.score * there),
            person=person.sum(dim=1).clamp(max=1),
            regions=box_regions(face_boxes(geometry.keypoints, HEAD), there, size),
        )


def face_quality(model: FaceQuality, views: Tensor, keypoints: Tensor) -> Tensor:
    """Score the faces in views [B, 3, V, V] by a model: [B] in [0, 1].

    keypoints [B, 5, 2]: the faces' keypoints.
    """
    return model(face_crops(views, keypoints, model))
