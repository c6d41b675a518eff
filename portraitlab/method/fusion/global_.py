"""Global features alone: one token per reference (HiFi-Portrait, Table 2)."""

from __future__ import annotations

from portraitlab.method.fusion.base import Fusion, GlobalProjection, flatten_references
from portraitlab.types import FaceFeatures, IdentityTokens


class GlobalFusion(Fusion):
    """Map each reference's embedding to width d; T = 1. Local features are unused."""

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()
        self.global_projection = GlobalProjection(global_dim, dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N, d]."""
        tokens = self.global_projection(features.global_)[:, :, None]
        return flatten_references(tokens, features.mask)
