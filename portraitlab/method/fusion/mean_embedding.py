"""Tokens of the mean embedding of all references (Wang et al., InstantID, 2024)."""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional

from portraitlab.method.fusion.base import Fusion
from portraitlab.method.fusion.embedding import EmbeddingFusion
from portraitlab.types import FaceFeatures, IdentityTokens


class MeanEmbeddingFusion(Fusion):
    """Average the embeddings of the unmasked references, and map the mean to T tokens.

    InstantID has one embedding per person; HiFi-Portrait (Sec. 2.3, 4.2) gives it all four
    references. The mean is normalised to unit length. Local features are unused.
    """

    def __init__(self, local_dim: int, global_dim: int, dim: int, tokens: int = 16) -> None:
        super().__init__()
        self.embedding = EmbeddingFusion(local_dim, global_dim, dim, tokens)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, T, d] of all references together."""
        there = features.global_ * features.mask[..., None]
        mean = functional.normalize(there.sum(dim=1, keepdim=True), dim=-1)
        known = features.mask.any(dim=1, keepdim=True)
        return self.embedding(replace(features, global_=mean, mask=known))
