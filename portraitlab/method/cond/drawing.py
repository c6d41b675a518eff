"""Draw lines and dots in torch: batched, anti-aliased, on any device and at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""


@dataclass(frozen=True)
class Stroke:
    """Lines of one colour between points; a point joined to itself is a dot.

    joints: pairs of point indices. width: line width as a fraction of the image; at least one
    pixel is drawn.
    """

    joints: tuple[tuple[int, int], ...]
    colour: Colour
    width: float


def polyline(start: int, stop: int, colour: Colour, width: float, closed: bool = False) -> Stroke:
    """Make one line through the points start to stop - 1."""
    joints = [(point, point + 1) for point in range(start, stop - 1)]
    return Stroke((*joints, (stop - 1, start)) if closed else tuple(joints), colour, width)


@torch.no_grad()
def draw(points: Tensor, strokes: Sequence[Stroke], size: int) -> Tensor:
    """Draw strokes in order, later ones over earlier ones, on black.

    points [B, P, 2]: fractions of the image; points outside are not visible. Returns
    [B, 3, size, size] in [-1, 1], without a gradient.
    """
    pixels = points * size
    places = torch.arange(size, device=points.device, dtype=points.dtype) + 0.5
    image = points.new_zeros(len(points), 3, size, size)
    for stroke in strokes:
        ends = torch.tensor(stroke.joints, device=points.device)
        distance = _distance_to_segments(pixels[:, ends[:, 0]], pixels[:, ends[:, 1]], places)
        radius = max(stroke.width * size, 1.0) / 2
        # The line's coverage of a pixel, which falls to 0 over one pixel at its edge.
        cover = (radius + 0.5 - distance).clamp(0, 1)[:, None]
        colour = points.new_tensor(stroke.colour).view(1, 3, 1, 1)
        image = image + cover * (colour - image)
    return 2 * image - 1


def _distance_to_segments(start: Tensor, stop: Tensor, places: Tensor) -> Tensor:
    """Compute the distance [B, H, W] of each pixel to the nearest segment start-stop [B, S, 2].

    Operations are in place where possible: allocating the tensors [B, S, H, W] would take longer
    than the arithmetic.
    """
    along = stop - start
    length = along.square().sum(dim=-1).clamp(min=1e-8)
    x = places - start[..., 0, None]
    y = places - start[..., 1, None]
    # Position of a pixel's projection along the segment: a term of x plus a term of y.
    share_x = x * (along[..., 0] / length)[..., None]
    share_y = y * (along[..., 1] / length)[..., None]
    share = (share_y[..., :, None] + share_x[..., None, :]).clamp_(0, 1)
    off_x = (share * -along[..., 0, None, None]).add_(x[..., None, :]).square_()
    off_y = share.mul_(-along[..., 1, None, None]).add_(y[..., :, None]).square_()
    return off_x.add_(off_y).amin(dim=1).sqrt_()
