"""72 landmarks of the drive image's own face (FaceSnap, Sec. 3.3)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.method.cond.landmarks72 import Landmark72Cond
from portraitlab.types import FaceGeometry


class DriveLandmarkCond(Landmark72Cond):
    """Draw 72 landmarks of the target with its own shape, in place of the reference's.

    The paper's ablation of its landmark predictor: the layout shows a stranger's face shape
    wherever the drive image is of another person.
    """

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Draw control images [B, 3, size, size] in [-1, 1]; the reference's shape is unused."""
        return super().forward(target_geometry, target_geometry, size)
