"""Local features alone: every patch token of every reference (HiFi-Portrait, Table 2)."""

from __future__ import annotations

from torch import nn

from portraitlab.method.fusion.base import Fusion, flatten_references
from portraitlab.types import FaceFeatures, IdentityTokens


class LocalFusion(Fusion):
    """Map the L patch tokens of each reference to width d; T = L. Global features are unused."""

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()
        self.local_projection = nn.Linear(local_dim, dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·L, d]."""
        return flatten_references(self.local_projection(features.local_), features.mask)
