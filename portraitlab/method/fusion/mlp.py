"""Global and local features side by side, each token through a perceptron of its own."""

from __future__ import annotations

import torch
from torch import nn

from portraitlab.method.fusion.base import Fusion, GlobalProjection, flatten_references
from portraitlab.types import FaceFeatures, IdentityTokens


class MLPFusion(Fusion):
    """ConcatFusion with two layers and a norm where it has one linear layer; T = 1 + L.

    In no table of HiFi-Portrait: between its concatenation, which is linear, and its face refiner,
    it tells what the refiner's attention is worth from what its nonlinear layers are. The layers
    are those with which IP-Adapter-FaceID projects a face embedding (Ye et al., 2023), with the
    feed-forward width of the refiner's decoder, 4 d.
    """

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()
        self.global_projection = _perceptron(GlobalProjection(global_dim, 4 * dim), dim)
        self.local_projection = _perceptron(nn.Linear(local_dim, 4 * dim), dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Identity tokens [B, N·(1 + L), d], each reference's global token first."""
        global_tokens = self.through(self.global_projection, features.global_)[:, :, None]
        local_tokens = self.through(self.local_projection, features.local_)
        tokens = torch.cat([global_tokens, local_tokens], dim=2)
        return flatten_references(tokens, features.mask)


def _perceptron(first: nn.Linear, dim: int) -> nn.Sequential:
    return nn.Sequential(first, nn.GELU(), nn.Linear(first.out_features, dim), nn.LayerNorm(dim))
