"""Concatenation of global and local features after a perceptron per token."""

from __future__ import annotations

import torch
from torch import nn

from portraitlab.method.fusion.base import Fusion, GlobalProjection, flatten_references
from portraitlab.types import FaceFeatures, IdentityTokens


class MLPFusion(Fusion):
    """ConcatFusion with two layers and a norm in place of its linear layer; T = 1 + L.

    It is not in HiFi-Portrait's tables. Between the paper's linear concatenation and its face
    refiner, it separates the effect of the refiner's attention from that of its nonlinear layers.
    The layers are those of IP-Adapter-FaceID's projection (Ye et al., 2023), with the feed-forward
    width of the refiner's decoder, 4 d.
    """

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()
        self.global_projection = _perceptron(GlobalProjection(global_dim, 4 * dim), dim)
        self.local_projection = _perceptron(nn.Linear(local_dim, 4 * dim), dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·(1 + L), d], each reference's global token first."""
        global_tokens = self.through(self.global_projection, features.global_)[:, :, None]
        local_tokens = self.through(self.local_projection, features.local_)
        tokens = torch.cat([global_tokens, local_tokens], dim=2)
        return flatten_references(tokens, features.mask)


def _perceptron(first: nn.Linear, dim: int) -> nn.Sequential:
    return nn.Sequential(first, nn.GELU(), nn.Linear(first.out_features, dim), nn.LayerNorm(dim))
