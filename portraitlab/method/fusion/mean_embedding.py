"""One face for all references: the mean of their embeddings (Wang et al., InstantID, 2024)."""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional

from portraitlab.method.fusion.base import Fusion
from portraitlab.method.fusion.embedding import EmbeddingFusion
from portraitlab.types import FaceFeatures, IdentityTokens


class MeanEmbeddingFusion(Fusion):
    """Averages the embeddings of the references that are there, and maps the mean to T tokens.

    InstantID knows one embedding a person; with several references HiFi-Portrait (Sec. 2.3, 4.2)
    gives it all four. The mean is brought back to unit length, as embeddings have. Local features
    are unused.
    """

    def __init__(self, local_dim: int, global_dim: int, dim: int, tokens: int = 16) -> None:
        super().__init__()
        self.embedding = EmbeddingFusion(local_dim, global_dim, dim, tokens)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Identity tokens [B, T, d], of all references together."""
        there = features.global_ * features.mask[..., None]
        mean = functional.normalize(there.sum(dim=1, keepdim=True), dim=-1)
        known = features.mask.any(dim=1, keepdim=True)
        return self.embedding(replace(features, global_=mean, mask=known))
