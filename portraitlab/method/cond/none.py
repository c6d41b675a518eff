"""No control image: expression and pose follow from the prompt and the noise."""

from __future__ import annotations

from portraitlab.method.cond.base import Cond
from portraitlab.types import FaceGeometry


class NoCond(Cond):
    """A condition without a control image."""

    draws = False

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> None:
        """Return None."""
        return None
