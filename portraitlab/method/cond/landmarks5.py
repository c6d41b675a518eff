"""Draw the target's five keypoints as dots."""

from __future__ import annotations

from torch import Tensor

from portraitlab.method.cond.base import Cond
from portraitlab.method.cond.drawing import Stroke, draw
from portraitlab.types import FaceGeometry

STROKES = tuple(Stroke(((point, point),), (1.0, 1.0, 1.0), 0.05) for point in range(5))


class FiveLandmarkCond(Cond):
    """Draw five white dots at the target's eyes, nose tip and mouth corners."""

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Draw control images [B, 3, size, size] in [-1, 1]; the reference's shape is unused."""
        return draw(target_geometry.keypoints, STROKES, size)
