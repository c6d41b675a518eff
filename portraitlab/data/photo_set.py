"""Photos, their features, and the batches that are gathered from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from portraitlab.data.features import FeatureStore
from portraitlab.data.members import Members, members_of
from portraitlab.data.photos import Photos
from portraitlab.faces.alignment import face_crops
from portraitlab.method.select.selection import FaceQuality
from portraitlab.types import Batch

_BATCH = 64


@dataclass(frozen=True)
class PhotoSet:
    """Photos with their features, and the identities of them that one purpose may use.

    reference_latents: whether batches hold the references' latents, for a net that reads them.
    """

    store: Photos
    features: FeatureStore
    identities: tuple[str, ...]
    reference_latents: bool = False

    def rows(self) -> dict[str, list[int]]:
        """Rows of the photos of each identity, in the store's order."""
        members = self.members()
        parts = np.split(members.rows, members.counts.cumsum()[:-1])
        return {name: part.tolist() for name, part in zip(members.names, parts, strict=False)}

    def members(self) -> Members:
        """The same in arrays."""
        return members_of(self.store, self.identities)

    @torch.no_grad()
    def quality(self, model: FaceQuality, rows: Tensor) -> Tensor:
        """What a model says of the aligned faces of photos, rows [B, N]: scores [B, N] in [0, 1].

        Not cached: it takes a second for all the references of a scoring.
        """
        scores = [self._quality(model, part) for part in rows.flatten().split(_BATCH)]
        return torch.cat(scores).view(rows.shape)

    def _quality(self, model: FaceQuality, rows: Tensor) -> Tensor:
        points = self.features.geometry[rows].keypoints
        return face_quality(model, self.store.views(rows), points)

    def batch(
        self,
        targets: Tensor,
        references: Tensor,
        mask: Tensor,
        shape_rows: Tensor,
        without_prompt: Tensor,
    ) -> Batch:
        """Gather samples: rows of targets [B], references [B, N] (mask [B, N] False: none there).

        shape_rows [B]: the photos whose 3D shape draws the landmarks. without_prompt bool [B]:
        where the empty prompt stands for the caption.
        """
        features = self.features
        return Batch(
            latents=features.latents[targets],
            text=features.empty_text.where(without_prompt, features.text(targets)),
            references=features.references(references, mask, self.reference_latents),
            shape_geometry=features.geometry[shape_rows],
            target_geometry=features.geometry[targets],
            identity=features.mean_identity(references, mask),
            person=features.person[targets],
            target_index=targets,
        )


def face_quality(model: FaceQuality, views: Tensor, keypoints: Tensor) -> Tensor:
    """What a model says of the faces in views [B, 3, V, V]: scores [B] in [0, 1].

    keypoints [B, 5, 2]: theirs.
    """
    return model(face_crops(views, keypoints, model))
