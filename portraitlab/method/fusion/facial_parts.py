"""Tokens of facial parts and of the face embedding (Huang et al., ConsistentID, 2024)."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn

from portraitlab.faces.alignment import TEMPLATE
from portraitlab.method.fusion.base import Fusion, check_heads, flatten_references
from portraitlab.method.fusion.embedding import EmbeddingFusion
from portraitlab.types import FaceFeatures, IdentityTokens

_RADIUS = 0.13
"""Largest distance of a part's cells from its points, as a fraction of the aligned crop."""


class FacialPartsFusion(Fusion):
    """A token for each of eyes, nose, mouth, ears and the whole face, and T for the embedding.

    The patch tokens are those of an aligned crop, so a part is in the same cells of every face. Its
    token attends to these cells only, from a learnt query, where ConsistentID describes the part to
    its facial encoder in words. T of the fusion is tokens + 5.

    Raises ValueError where dim does not divide into heads, and where the patch tokens are not a
    class token and a square of cells.
    """

    def __init__(
        self, local_dim: int, global_dim: int, dim: int, tokens: int = 4, heads: int = 4
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.embedding = EmbeddingFusion(local_dim, global_dim, dim, tokens)
        self.local_projection = nn.Linear(local_dim, dim)
        self.queries = nn.Parameter(torch.randn(len(_points()), dim))
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N·(tokens + 5), d], each reference's embedding first."""
        mask = features.mask
        parts = self.through(self._parts, features.local_[mask][:, 1:])
        spread = parts.new_zeros(*mask.shape, *parts.shape[1:])
        spread[mask] = parts
        whole = self.embedding(features).tokens.unflatten(1, (mask.shape[1], -1))
        return flatten_references(torch.cat([whole, spread], dim=2), mask)

    def _parts(self, cells: Tensor) -> Tensor:
        """Compute tokens [R, 5, d] of the parts of R faces from cell features [R, L - 1, d1]."""
        patches = self.local_projection(cells)
        elsewhere = ~cells_of_parts(patches.shape[1]).to(patches.device)
        queries = self.queries.expand(len(patches), -1, -1)
        attended, _ = self.attention(
            queries, patches, patches, attn_mask=elsewhere, need_weights=False
        )
        parts = queries + attended
        normed: Tensor = self.norm(parts + self.perceptron(parts))
        return normed


def cells_of_parts(cells: int) -> Tensor:
    """Find the cells of an aligned crop, row by row, that show each part: bool [5, cells].

    A part has the cells whose centres are near one of its points, and the nearest cell of each
    point. Raises ValueError where the cells do not form a square.
    """
    edge = isqrt(cells)
    if edge**2 != cells:
        raise ValueError(
            f"The encoder gives {cells} patch tokens beside its class token, and facial parts need "
            "a square of them; choose fusion=concat or another encoder."
        )
    centres = (torch.arange(edge) + 0.5) / edge
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([columns, rows], dim=-1).flatten(0, 1)
    parts = []
    for points in _points().values():
        distance = torch.cdist(points, places)
        part = (distance < _RADIUS).any(0)
        part[distance.argmin(1)] = True
        parts.append(part if len(points) else torch.ones_like(part))
    return torch.stack(parts)


def _points() -> dict[str, Tensor]:
    """Return points [P, 2] of each part in the aligned crop, none for the whole face."""
    eyes, nose, mouth = TEMPLATE[:2], TEMPLATE[2:3], TEMPLATE[3:]
    # Ears are beyond the eyes by half of the distance between the eyes.
    ears = eyes + 0.5 * (eyes - eyes.flip(0))
    return {
        "eyes": eyes,
        "nose": nose,
        "mouth": torch.cat([mouth, mouth.mean(0, keepdim=True)]),
        "ears": ears,
        "face": torch.zeros(0, 2),
    }
