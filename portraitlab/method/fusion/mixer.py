"""The Facial Attribute Mixer: the face embedding reads CLIP's details (FaceSnap, Sec. 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitlab.method.fusion.base import Fusion, GlobalProjection, check_heads, flatten_references
from portraitlab.support.checks import check_whole
from portraitlab.types import FaceFeatures, IdentityTokens


class FacialAttributeMixer(Fusion):
    """Cross-attention from ID tokens to all features, then a transformer decoder (eqs. 1 and 2).

    The embedding becomes id_tokens tokens, which attend to themselves and to the patch tokens; what
    they read is added to them and normalised, as in a transformer's layer, which eq. 1 leaves open.
    Without it, near-uniform attention gives all people almost the same tokens at the start. A
    decoder with learnable queries reads the result, so T = learnable_tokens, and what reaches the
    net has passed through id_tokens tokens. The paper has one reference; several are mixed one by
    one, as the face refiner refines them. The decoder is Vaswani et al.'s (2017) with a
    feed-forward width of 4 d and without dropout, which the paper does not state, like heads,
    layers and counts of tokens.

    Raises ValueError where dim does not divide into heads, and for fewer than one token.
    """

    def __init__(
        self,
        local_dim: int,
        global_dim: int,
        dim: int,
        id_tokens: int = 4,
        learnable_tokens: int = 16,
        layers: int = 2,
        heads: int = 8,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        check_whole("fusion.id_tokens", id_tokens)
        check_whole("fusion.learnable_tokens", learnable_tokens)
        self.id_projection = nn.Sequential(
            GlobalProjection(global_dim, id_tokens * dim), nn.Unflatten(-1, (id_tokens, dim))
        )
        self.clip_projection = nn.Linear(local_dim, dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.queries = nn.Parameter(torch.randn(learnable_tokens, dim) / dim**0.5)
        layer = nn.TransformerDecoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·learnable_tokens, d]."""
        mask = features.mask
        # Each unmasked reference of any sample is one sequence.
        id_tokens = self.id_projection(features.global_[mask])
        clip_tokens = self.clip_projection(features.local_[mask])
        fused = self.through(self._attend, id_tokens, clip_tokens)
        mixed = self.queries.repeat(len(fused), 1, 1)
        for layer in self.decoder.layers:  # eq. 2
            mixed = self.through(layer, mixed, fused)
        tokens = mixed.new_zeros(*mask.shape, *mixed.shape[1:])
        tokens[mask] = mixed
        return flatten_references(tokens, mask)

    def _attend(self, id_tokens: Tensor, clip_tokens: Tensor) -> Tensor:
        """Compute the preliminary fused features of eq. 1."""
        both = torch.cat([id_tokens, clip_tokens], dim=1)
        read, _ = self.attention(id_tokens, both, both, need_weights=False)
        fused: Tensor = self.norm(id_tokens + read)
        return fused
