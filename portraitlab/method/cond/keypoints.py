"""Draw the target's five keypoints as coloured limbs and dots, as InstantID does."""

from __future__ import annotations

from torch import Tensor

from portraitlab.method.cond.base import Cond
from portraitlab.method.cond.drawing import Colour, Stroke, draw
from portraitlab.types import FaceGeometry

_NOSE = 2
_COLOURS: tuple[Colour, ...] = (
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0),
    (1.0, 0.0, 1.0),
)
_LIMBS = tuple(
    Stroke(((point, _NOSE),), (0.6 * red, 0.6 * green, 0.6 * blue), 0.025)
    for point, (red, green, blue) in enumerate(_COLOURS)
    if point != _NOSE
)
_DOTS = tuple(Stroke(((point, point),), colour, 0.06) for point, colour in enumerate(_COLOURS))
STROKES = _LIMBS + _DOTS
"""Limbs from the nose to the other four at 60 % of their colour, then the dots. They are about
three times thicker than InstantID's at 1024 px, to be visible at 64 px."""


class KeypointCond(Cond):
    """Draw the target's eyes, nose tip and mouth corners (Wang et al., InstantID, 2024)."""

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Draw control images [B, 3, size, size] in [-1, 1]; the reference's shape is unused."""
        return draw(target_geometry.keypoints, STROKES, size)
