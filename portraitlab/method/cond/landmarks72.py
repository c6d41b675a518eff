"""The landmark predictor: 72 points of one face's shape in another's pose (FaceSnap, Sec. 2.1)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.method.cond.drawing import Stroke, draw
from portraitlab.method.cond.landmarks import STROKES, WIDTH, LandmarkCond
from portraitlab.types import FaceGeometry

STROKES_72 = (
    *STROKES,
    *(Stroke(((point, point),), (1.0, 1.0, 0.0), 2 * WIDTH) for point in (68, 69)),  # pupils
    *(Stroke(((point, point),), (1.0, 1.0, 1.0), 2 * WIDTH) for point in (70, 71)),  # temples
)
"""The 68 landmarks as lines, and dots for the four points beyond them.

The paper has 72 points and does not name them; that the four are pupils and temples is our reading.
"""


class Landmark72Cond(LandmarkCond):
    """Draw 72 landmarks of the reference's shape with the target's expression and pose."""

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Draw control images [B, 3, size, size] in [-1, 1]. Raises as LandmarkCond."""
        mixed = self.mixed(shape_geometry, target_geometry)
        return draw(self.face_model.landmarks72(mixed), STROKES_72, size)
