"""Matching and annealed aggregation of two pictures side by side (IC-Portrait, Sec. 3.3).

The source is the style picture, the left half of a pair; the target is the profile, the right half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.types import TensorRecord

PART = 2**22
"""Cosines that are in memory at once: 16 MiB in single precision."""


@dataclass(frozen=True)
class Match(TensorRecord):
    """Places of a source's cells in a target.

    places [B, h, w, 2]: x and y in image fractions of the target. confidence [B, h, w]: cosine of
    the cell's features with those of its best match.
    """

    places: Tensor
    confidence: Tensor


def cell_centres(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the centres [h, w, 2] of a picture's cells, x and y in image fractions."""
    down = (torch.arange(height, device=device) + 0.5) / height
    across = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)


def cost_volume(source: Tensor, target: Tensor) -> Iterator[Tensor]:
    """Yield the cosines of source cells with all target cells (eq. 5), a part at a time.

    source [B, C, h, w] and target [B, C, h', w']: descriptors. Each part is [B, n, h'·w'], the next
    n cells of the source row by row, with at most PART cosines but at least one cell.
    """
    source, target = (
        functional.normalize(features.float(), dim=1).flatten(2) for features in (source, target)
    )
    cells = max(1, PART // (len(target) * target.shape[-1]))
    for part in source.split(cells, dim=2):
        yield part.mT @ target


def best_match(source: Tensor, target: Tensor) -> Match:
    """Find the most similar cell of the target for each cell of the source (eq. 6).

    source [B, C, h, w] and target [B, C, h', w']: descriptors. The paper's flow is these places
    minus the source's cell centres.
    """
    parts = [part.max(dim=-1) for part in cost_volume(source, target)]
    cells = torch.cat([indices for _, indices in parts], dim=1)
    height, width = target.shape[-2:]
    centres = cell_centres(height, width, target.device).flatten(0, 1)
    return _match(centres[cells], torch.cat([values for values, _ in parts], dim=1), source)


def soft_match(source: Tensor, target: Tensor, temperature: float = 0.05, radius: int = 2) -> Match:
    """Find places between the target's cells: means weighted by a softmax of the cosines.

    The softmax is over 2·radius + 1 rows and columns around the best match and not over all cells,
    since the mean of two similar regions, such as the eyes, is a place in neither (SFNet, Lee et
    al., CVPR 2019, weighs by a Gaussian for this reason). temperature: divides the cosines; near 0
    the result is best_match's. The confidence is the best match's.
    """
    height, width = target.shape[-2:]
    centres = cell_centres(height, width, target.device).flatten(0, 1)
    around = torch.arange(-radius, radius + 1, device=target.device)
    below, right = (offsets.flatten() for offsets in torch.meshgrid(around, around, indexing="ij"))
    places: list[Tensor] = []
    best: list[Tensor] = []
    for cosines in cost_volume(source, target):
        value, cell = cosines.max(dim=-1)
        # Cells [B, n, window] around the best; those beyond the border get no weight.
        row, column = cell[..., None] // width + below, cell[..., None] % width + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        window = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        near = cosines.gather(-1, window).masked_fill(~inside, -torch.inf)
        weights = (near / temperature).softmax(dim=-1)
        places.append((weights[..., None] * centres[window]).sum(dim=-2))
        best.append(value)
    return _match(torch.cat(places, dim=1), torch.cat(best, dim=1), source)


def _match(places: Tensor, confidence: Tensor, source: Tensor) -> Match:
    size = source.shape[-2:]
    return Match(places.unflatten(1, size), confidence.unflatten(1, size))


def resized_places(places: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize places [B, h0, w0, 2] to [B, *size, 2].

    Offsets from the cells' own centres are resized rather than the places, so that no motion at any
    size is no motion at all.
    """
    own = cell_centres(places.shape[1], places.shape[2], places.device)
    offsets = functional.interpolate(
        (places - own).float().movedim(-1, 1),
        size,
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return cell_centres(*size, places.device) + offsets.movedim(1, -1)


def warp(features: Tensor, places: Tensor) -> Tensor:
    """Sample features [B, C, h, w] at places [B, h0, w0, 2], which are resized to h x w.

    Places beyond the border take its features.
    """
    height, width = features.shape[-2:]
    resized = resized_places(places, (height, width))
    # Half precision would round the places to coarser steps than cells.
    sampled = functional.grid_sample(
        features.float(), 2 * resized - 1, padding_mode="border", align_corners=False
    )
    return sampled.to(features.dtype)


def annealed_weights(levels: int, alpha: float, beta: float) -> tuple[float, ...]:
    """Compute W_l = (1 - l / L) alpha + beta for l = 0, …, L (eq. 7), with L = levels.

    L is the number of residuals of the down blocks, which have l = 0 to L - 1 from the input on.
    The middle block's residual has l = L, and so the weight beta. alpha=0 weighs all levels alike.
    """
    return tuple((1 - level / levels) * alpha + beta for level in range(levels + 1))


def aggregate(
    residuals: Sequence[Tensor],
    places: Tensor,
    weights: Sequence[float],
    trusted: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Add the profile's residuals, warped to the style picture, to the style picture's (Sec. 3.3).

    Each residual [B, C, h, 2w] has the style picture in its left half and the profile in its right
    half, which is unchanged. places [B, h0, w0, 2]: places of the style picture's cells in the
    profile. weights: W_l of each residual. trusted [B], bool or in [0, 1]: multiplies a sample's
    weights, so that an untrusted match changes nothing; None is 1.

    Raises ValueError for a residual of odd width, and where there is not one weight a residual.
    """
    share = places.new_ones(len(places)) if trusted is None else trusted.to(places)
    aggregated: list[Tensor] = []
    for residual, weight in zip(residuals, weights, strict=True):
        if residual.shape[-1] % 2:
            raise ValueError(
                f"a residual is {residual.shape[-1]} cells wide, which is not a pair of halves; "
                "the width of the latents must be a multiple of 2 at every level of the UNet"
            )
        style, profile = residual.chunk(2, dim=-1)
        amount = (weight * share).to(residual).view(-1, 1, 1, 1)
        joined = torch.where(amount == 0, style, style + amount * warp(profile, places))
        aggregated.append(torch.cat([joined, profile], dim=-1))
    return tuple(aggregated)
