"""The resampler: few tokens that read a face's embeddings (FPGA, Sec. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitlab.method.fusion.base import Fusion, GlobalProjection, check_heads, flatten_references
from portraitlab.support.checks import check_whole
from portraitlab.types import FaceFeatures, IdentityTokens


class ResamplerFusion(Fusion):
    """Learnable queries that attend to CLIP's and the recogniser's embeddings; T = tokens.

    FPGA resamples "global Clip Vision and ArcFace" features "into face embedding F_id with the
    dimension of 4 x 768", and names no architecture. This is the resampler of IP-Adapter's "plus"
    models in small: blocks of cross-attention from the queries to the embeddings and the queries
    themselves, each with a feed-forward layer of width 4 d. CLIP's image embedding is its class
    token, the first of the local features. The other patch tokens are read with patches=True, as
    IP-Adapter reads them; FPGA's are global. The paper has one reference; several are resampled
    one by one.

    Raises ValueError where dim does not divide into heads, and for fewer than one token.
    """

    def __init__(
        self,
        local_dim: int,
        global_dim: int,
        dim: int,
        tokens: int = 4,
        layers: int = 4,
        heads: int = 8,
        patches: bool = False,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        check_whole("fusion.tokens", tokens)
        self.patches = patches
        self.clip_projection = nn.Linear(local_dim, dim)
        self.id_projection = GlobalProjection(global_dim, dim)
        self.queries = nn.Parameter(torch.randn(tokens, dim) / dim**0.5)
        self.blocks = nn.ModuleList(_Block(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·tokens, d]."""
        mask = features.mask
        # Each unmasked reference of any sample is one sequence.
        local = features.local_[mask]
        clip = self.clip_projection(local if self.patches else local[:, :1])
        read = torch.cat([clip, self.id_projection(features.global_[mask])[:, None]], dim=1)
        queries = self.queries.repeat(len(read), 1, 1)
        for block in self.blocks:
            queries = self.through(block, queries, read)
        resampled = self.norm(queries)
        tokens = resampled.new_zeros(*mask.shape, *resampled.shape[1:])
        tokens[mask] = resampled
        return flatten_references(tokens, mask)


class _Block(nn.Module):
    """Cross-attention and a feed-forward layer, each normalised before and added to its input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_queries = nn.LayerNorm(dim)
        self.norm_read = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, queries: Tensor, read: Tensor) -> Tensor:
        """Update queries [R, T, d] from features [R, L, d]."""
        asking = self.norm_queries(queries)
        context = torch.cat([self.norm_read(read), asking], dim=1)
        attended, _ = self.attention(asking, context, context, need_weights=False)
        queries = queries + attended
        return queries + self.feed_forward(queries)
