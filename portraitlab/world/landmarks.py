"""Positions of the 68 and 72 landmarks and five keypoints on the chart of the head.

The 68 points follow the iBUG order (jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, lips 48-67);
the 72 points add the two pupils and the two tops of the forehead's sides (FaceSnap's landmark
predictor counts 72; the paper does not list the four beyond the 68, so these are our choice).
The five keypoints are the eye centres, the nose tip and the mouth corners, as in ArcFace.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from portraitlab.world.mesh import (
    BROW_Y,
    EYE_X,
    EYE_Y,
    MOUTH_BAND,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    NOSE_BASE_Y,
    NOSE_TIP_Y,
    Array,
    surface_points,
)

EYE_HALF_WIDTH, EYE_HALF_HEIGHT = 0.142, 0.074
UPPER_LIP, LOWER_LIP = 0.075, 0.095
"""Heights of the lips above and below the mouth's line, in chart units."""


def _jaw() -> list[tuple[float, float]]:
    points = []
    for angle in np.linspace(-1, 1, 17):
        bend = np.pi / 2 * abs(angle)
        points.append(
            (np.sign(angle) * 0.70 * np.sin(bend) ** 0.85, 0.12 - 1.06 * np.cos(bend) ** 0.9)
        )
    return [(float(x), float(y)) for x, y in points]


def _brow(side: int) -> list[tuple[float, float]]:
    along = [0.45, 0.37, 0.28, 0.19, 0.11]
    lift = [-0.035, 0.012, 0.03, 0.022, 0.0]
    points = [(side * x, BROW_Y + dy) for x, dy in zip(along, lift, strict=True)]
    return points if side < 0 else points[::-1]


def _eye(side: int) -> list[tuple[float, float]]:
    outline = [(-1.0, 0.0), (-0.4, 0.9), (0.4, 0.9), (1.0, 0.0), (0.4, -0.85), (-0.4, -0.85)]
    return [(side * EYE_X + EYE_HALF_WIDTH * u, EYE_Y + EYE_HALF_HEIGHT * v) for u, v in outline]


def _lips() -> list[tuple[float, float]]:
    wide, band = MOUTH_HALF_WIDTH, MOUTH_BAND
    outer = [
        (-1, 0), (-0.6, 0.7), (-0.2, 1), (0, 0.85), (0.2, 1), (0.6, 0.7), (1, 0),
        (0.6, -0.75), (0.25, -1), (0, -1), (-0.25, -1), (-0.6, -0.75),
    ]  # fmt: skip
    points = [(wide * u, MOUTH_Y + v * (UPPER_LIP if v > 0 else LOWER_LIP)) for u, v in outer]
    inner = [(-0.85, 0), (-0.35, 1), (0, 1), (0.35, 1), (0.85, 0), (0.35, -1), (0, -1), (-0.35, -1)]
    return points + [(wide * u, MOUTH_Y + v * band * 1.1) for u, v in inner]


def chart_points() -> list[tuple[float, float]]:
    """Return (x0, y0) of the 72 landmarks; the first 68 are the iBUG ones."""
    bridge = [(0.0, y) for y in (0.10, 0.03, -0.05, NOSE_TIP_Y)]
    base = [(x, NOSE_BASE_Y + 0.02 * (abs(x) > 0.07)) for x in (-0.11, -0.055, 0.0, 0.055, 0.11)]
    points = _jaw() + _brow(-1) + _brow(1) + bridge + base + _eye(-1) + _eye(1) + _lips()
    assert len(points) == 68
    return [*points, (-EYE_X, EYE_Y), (EYE_X, EYE_Y), (-0.42, 0.62), (0.42, 0.62)]


KEYPOINTS_FROM_72 = (68, 69, 30, 48, 54)
"""Indices of the five keypoints among the 72 landmarks."""


@dataclass(frozen=True)
class LandmarkModel:
    """A linear model of landmarks.

    mean [72, 3], shape_basis [S, 72, 3], expression_basis [E, 72, 3].
    """

    mean: Array
    shape_basis: Array
    expression_basis: Array

    def points(self, shape: Array, expression: Array) -> Array:
        """Return landmarks [72, 3] in head units."""
        moved = self.mean + np.tensordot(shape, self.shape_basis, 1)
        return (moved + np.tensordot(expression, self.expression_basis, 1)).astype(np.float32)


@lru_cache(maxsize=1)
def landmark_model() -> LandmarkModel:
    """Compute the linear landmark model of the world's head, once per process."""
    x0, y0 = np.asarray(chart_points(), np.float32).T
    return LandmarkModel(*surface_points(x0, y0))
