"""The regions of a picture in which each person's identity tokens act (FPGA, Sec. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

HEAD = 3.9
"""Edge of a head's box in the units of face_boxes: one and a half times the face's."""


def box_regions(boxes: Tensor, there: Tensor, size: tuple[int, int]) -> Tensor:
    """Mark the cells of boxes: bool [B, P, h, w].

    boxes [B, P, 4]: left, top, right and bottom as fractions of the picture. there bool [B, P]:
    False for people who are not there. size: h and w.

    A cell belongs to a box that covers its middle. Where boxes overlap, it belongs to the largest,
    since the nearer face is larger; a box without a cell's middle gets the cell of its own middle.
    """
    height, width = size
    across = (torch.arange(width, device=boxes.device) + 0.5) / width
    down = (torch.arange(height, device=boxes.device) + 0.5) / height
    left, top, right, bottom = (boxes[..., side, None] for side in range(4))
    columns = _covered(left, right, across)
    rows = _covered(top, bottom, down)
    inside = rows[..., :, None] & columns[..., None, :] & there[..., None, None]
    area = ((right - left) * (bottom - top))[..., None].clamp(min=1e-8) * inside
    return inside & (area == area.amax(dim=1, keepdim=True))


def _covered(start: Tensor, stop: Tensor, middles: Tensor) -> Tensor:
    """Mark the middles [n] from start [B, P, 1] to stop, or else the nearest to their centre."""
    covered = (middles >= start) & (middles <= stop)
    centre = (start + stop) / 2
    nearest = (middles - centre).abs().argmin(dim=-1, keepdim=True)
    alone = torch.zeros_like(covered).scatter(-1, nearest, True)
    seen = (stop > 0) & (start < 1)
    return torch.where(covered.any(dim=-1, keepdim=True), covered, alone & seen)
