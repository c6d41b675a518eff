"""The face refiner: learnable tokens attend to a face's details (HiFi-Portrait, Sec. 3.2)."""

from __future__ import annotations

import torch
from torch import nn

from portraitlab.method.fusion.base import Fusion, GlobalProjection, check_heads, flatten_references
from portraitlab.types import FaceFeatures, IdentityTokens


class FaceRefiner(Fusion):
    """A transformer decoder with the global token and learnable tokens as queries (eqs. 2-4).

    T = 1 + learnable_tokens. Each reference is refined separately with the same learnable tokens,
    so a permutation of references only permutes tokens, and a masked reference does not influence
    others. The decoder is Vaswani et al.'s (2017), as the paper cites it, with a feed-forward
    width of 4 d and without dropout; the paper states neither.

    Raises ValueError where dim does not divide into heads.
    """

    def __init__(
        self,
        local_dim: int,
        global_dim: int,
        dim: int,
        learnable_tokens: int = 32,
        layers: int = 5,
        heads: int = 8,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.global_projection = GlobalProjection(global_dim, dim)
        self.local_projection = nn.Linear(local_dim, dim)
        self.learnable = nn.Parameter(torch.randn(learnable_tokens, dim) / dim**0.5)
        layer = nn.TransformerDecoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·(1 + learnable_tokens), d]."""
        mask = features.mask
        # Each unmasked reference of any sample is one sequence.
        global_token = self.global_projection(features.global_[mask])[:, None]
        local_tokens = self.local_projection(features.local_[mask])
        learnable = self.learnable.expand(len(global_token), -1, -1)
        query = torch.cat([global_token, learnable], dim=1)  # eq. 2
        key_value = torch.cat([global_token, local_tokens], dim=1)  # eq. 3
        refined = query
        for layer in self.decoder.layers:  # eq. 4
            refined = self.through(layer, refined, key_value)
        tokens = refined.new_zeros(*mask.shape, *refined.shape[1:])
        tokens[mask] = refined
        return flatten_references(tokens, mask)
