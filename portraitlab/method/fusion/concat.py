"""Concatenation of global and local features (HiFi-Portrait, Table 2)."""

from __future__ import annotations

import torch
from torch import nn

from portraitlab.method.fusion.base import Fusion, GlobalProjection, flatten_references
from portraitlab.types import FaceFeatures, IdentityTokens


class ConcatFusion(Fusion):
    """Map both features to width d and concatenate them; T = 1 + L (eq. 3 without a decoder)."""

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()
        self.global_projection = GlobalProjection(global_dim, dim)
        self.local_projection = nn.Linear(local_dim, dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·(1 + L), d], each reference's global token first."""
        global_tokens = self.global_projection(features.global_)[:, :, None]
        local_tokens = self.local_projection(features.local_)
        tokens = torch.cat([global_tokens, local_tokens], dim=2)
        return flatten_references(tokens, features.mask)
