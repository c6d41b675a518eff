"""Photos, their features, and the batches that are gathered from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from portraitlab.data.features import FeatureStore
from portraitlab.data.store import PhotoStore
from portraitlab.types import Batch


@dataclass(frozen=True)
class PhotoSet:
    """Photos with their features, and the identities of them that one purpose may use.

    reference_latents: whether batches hold the references' latents, for a net that reads them.
    """

    store: PhotoStore
    features: FeatureStore
    identities: tuple[str, ...]
    reference_latents: bool = False

    def rows(self) -> dict[str, list[int]]:
        """Rows of the photos of each identity, in the store's order."""
        rows: dict[str, list[int]] = {identity: [] for identity in self.identities}
        for row, identity in enumerate(self.store.identity):
            if identity in rows:
                rows[identity].append(row)
        return rows

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
        captions = features.text(targets)
        text = torch.where(without_prompt[:, None, None], features.empty_text, captions)
        return Batch(
            latents=features.latents[targets],
            text=text,
            references=features.references(references, mask, self.reference_latents),
            shape_geometry=features.geometry[shape_rows],
            target_geometry=features.geometry[targets],
            identity=features.mean_identity(references, mask),
            person=features.person[targets],
            target_index=targets,
        )
