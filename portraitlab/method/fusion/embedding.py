"""A few tokens per reference from its face embedding (Ye et al., IP-Adapter-FaceID, 2023)."""

from __future__ import annotations

from torch import nn

from portraitlab.method.fusion.base import Fusion, GlobalProjection, flatten_references
from portraitlab.support.checks import check_whole
from portraitlab.types import FaceFeatures, IdentityTokens


class EmbeddingFusion(Fusion):
    """Map each reference's embedding to T tokens of width d; local features are unused.

    Two layers, the first twice as wide as the embedding, then a norm per token, as in the
    projection of IP-Adapter-FaceID, which replaces CLIP's embedding by a recogniser's. Tokens of
    several references are concatenated, as in its version for portraits.

    Raises ValueError for fewer than one token.
    """

    def __init__(self, local_dim: int, global_dim: int, dim: int, tokens: int = 4) -> None:
        super().__init__()
        check_whole("fusion.tokens", tokens)
        self.projection = nn.Sequential(
            GlobalProjection(global_dim, 2 * global_dim),
            nn.GELU(),
            nn.Linear(2 * global_dim, tokens * dim),
            nn.Unflatten(-1, (tokens, dim)),
            nn.LayerNorm(dim),
        )

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·T, d]."""
        return flatten_references(self.projection(features.global_), features.mask)
