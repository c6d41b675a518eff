"""No control image: expression and pose are the prompt's and chance's."""

from __future__ import annotations

from portraitlab.method.cond.base import Cond
from portraitlab.types import FaceGeometry


class NoCond(Cond):
    """Draws nothing."""

    draws = False

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> None:
        """None."""
        return None
