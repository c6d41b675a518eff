"""A black control image (FaceSnap, Sec. 3.3)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.method.cond.base import Cond
from portraitlab.types import FaceGeometry


class BlackCond(Cond):
    """An empty control image: the net keeps its path for it and is shown nothing.

    It separates the effect of the net from that of the drawing; cond=none has no such path.
    """

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Return control images [B, 3, size, size] of -1."""
        return target_geometry.keypoints.new_full((len(target_geometry), 3, size, size), -1.0)
