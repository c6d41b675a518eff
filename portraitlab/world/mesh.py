"""The world's head: a closed mesh with linear bases of shape and expression.

A superellipsoid with bumps for nose, brow, lips, chin and sockets, sampled on a grid that is
dense where features are. All displacements are fields over the chart, so the head is a linear
model: vertices = mean + shape · shape_basis + expression · expression_basis.

Head units: the undeformed skull reaches y = ±1; x points to the image's right, y up, z at the
viewer. The chart's coordinates are the azimuth phi (0 in front), the elevation theta, and the
front-plane coordinates (x0, y0) of the undeformed skull, in which features are placed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

ROWS, COLUMNS = 92, 85
HALF_WIDTH, HALF_HEIGHT, HALF_DEPTH = 0.74, 1.0, 0.88

EYE_X, EYE_Y = 0.29, 0.10
BROW_Y = 0.29
NOSE_TIP_Y, NOSE_BASE_Y = -0.13, -0.21
MOUTH_Y, MOUTH_HALF_WIDTH = -0.455, 0.23
MOUTH_BAND = 0.012
"""Half the height of the closed mouth's interior in the chart; opening the jaw stretches it."""

SHAPE_NAMES = (
    "face width", "face length", "jaw width", "chin", "eye spacing", "eye size", "eye slant",
    "brow height", "nose length", "nose width", "nose projection", "mouth width", "lip fullness",
    "mouth height", "cheeks", "forehead", "nose bend", "mouth tilt",
)  # fmt: skip
EXPRESSION_NAMES = (
    "jaw open", "smile", "sad", "pucker", "eyes closed", "brows up", "brows down", "smirk",
)  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """Coordinates of points of the undeformed skull; all arrays have one common shape."""

    phi: Array
    theta: Array

    @cached_property
    def x0(self) -> Array:
        """Front-plane x: to the image's right."""
        return (HALF_WIDTH * np.cos(self.theta) * np.sin(self.phi)).astype(np.float32)

    @cached_property
    def y0(self) -> Array:
        """Front-plane y: up."""
        return (HALF_HEIGHT * np.sin(self.theta)).astype(np.float32)

    @cached_property
    def front(self) -> Array:
        """1 on the face, 0 on the back of the head, smooth between."""
        return smoothstep((np.cos(self.phi) * np.cos(self.theta) - 0.05) / 0.35)


@dataclass(frozen=True)
class HeadModel:
    """The linear head model on a ROWS x COLUMNS grid.

    mean [V, 3], shape_basis [S, V, 3], expression_basis [E, V, 3]. Vertex (row, column) is number
    row * COLUMNS + column; the last column repeats the first.
    """

    chart: Chart
    mean: Array
    shape_basis: Array
    expression_basis: Array

    def vertices(self, shape: Array, expression: Array) -> Array:
        """Return vertices [V, 3] in head units for shape [S] and expression [E]."""
        flat = self.mean.reshape(-1) + np.concatenate([shape, expression]) @ self._stacked
        return flat.reshape(-1, 3).astype(np.float32)

    @property
    def _stacked(self) -> Array:
        return _stacked_bases()


def smoothstep(t: Array | float) -> Array:
    """Map t below 0 to 0, above 1 to 1, and smoothly in between."""
    clipped = np.clip(t, 0.0, 1.0)
    return np.asarray(clipped * clipped * (3 - 2 * clipped), dtype=np.float32)


def bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """Evaluate a Gaussian of height 1 at (cx, cy)."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2)).astype(np.float32)


def _pair(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """Evaluate a bump and its mirror image on the other side of the face."""
    return bump(x, y, cx, cy, sx, sy) + bump(x, y, -cx, cy, sx, sy)


def _warped(count: int, low: float, high: float, density: Array, grid: Array) -> Array:
    """Return `count` values from low to high, spaced inversely to `density` over `grid`."""
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    return np.interp(np.linspace(0, mass[-1], count), mass, grid).astype(np.float32)


@lru_cache(maxsize=1)
def grid_angles() -> tuple[Array, Array]:
    """Return theta of each row (top first) and phi of each column."""
    theta = np.linspace(-np.pi / 2, np.pi / 2, 4001, dtype=np.float32)
    y = HALF_HEIGHT * np.sin(theta)
    dense = 1 + 2.5 * np.exp(-0.5 * ((y - EYE_Y) / 0.09) ** 2)
    dense += 1.5 * np.exp(-0.5 * ((y - NOSE_BASE_Y) / 0.08) ** 2)
    dense += 2.5 * np.exp(-0.5 * ((y - MOUTH_Y) / 0.06) ** 2)
    dense += 14 * np.exp(-0.5 * ((y - MOUTH_Y) / 0.02) ** 2)
    rows = _warped(ROWS, -np.pi / 2, np.pi / 2, dense, theta)[::-1].copy()
    phi = np.linspace(-np.pi, np.pi, 4001, dtype=np.float32)
    columns = _warped(COLUMNS, -np.pi, np.pi, 1 + 2.2 * smoothstep((np.cos(phi) + 0.1) / 0.6), phi)
    return rows, columns


def skull(chart: Chart) -> Array:
    """Return the undeformed skull [..., 3], tapered towards the chin."""
    x, y = chart.x0, chart.y0
    z = HALF_DEPTH * np.cos(chart.theta) * np.cos(chart.phi)
    taper = 1 - 0.20 * smoothstep((-y - 0.15) / 0.85) * (0.4 + 0.6 * chart.front)
    # The jaw recedes under the cheeks; the back of the skull is rounder than the front.
    z = np.where(z < 0, z * 0.95, z * (1 - 0.06 * smoothstep((-y - 0.4) / 0.6)))
    return np.stack([x * taper, y, z], -1).astype(np.float32)


def mean_displacement(chart: Chart) -> Array:
    """Displace the skull by nose, brow, sockets, lips and chin of the mean face [..., 3]."""
    x, y = chart.x0, chart.y0
    z = 0.10 * bump(x, y, 0, 0.02, 0.065, 0.17) + 0.20 * bump(x, y, 0, NOSE_TIP_Y, 0.075, 0.075)
    z += 0.06 * _pair(x, y, 0.085, -0.17, 0.045, 0.05)
    z += 0.05 * _pair(x, y, 0.28, 0.25, 0.17, 0.055) - 0.10 * _pair(x, y, EYE_X, EYE_Y, 0.13, 0.085)
    z += 0.05 * _pair(x, y, EYE_X, EYE_Y, 0.075, 0.05) + 0.05 * _pair(x, y, 0.42, -0.10, 0.14, 0.13)
    z += 0.055 * bump(x, y, 0, -0.41, 0.15, 0.035) + 0.06 * bump(x, y, 0, -0.50, 0.13, 0.04)
    z -= 0.03 * bump(x, y, 0, -0.60, 0.16, 0.04) - 0.09 * bump(x, y, 0, -0.82, 0.16, 0.10)
    return np.stack([0 * x, 0 * x, z * chart.front], -1).astype(np.float32)


def shape_fields(chart: Chart) -> Array:
    """Return the shape basis [S, ..., 3]: displacement for a coefficient of 1 (one deviation)."""
    x, y, front = chart.x0, chart.y0, chart.front
    side = np.sign(x)
    low = smoothstep((-y - 0.1) / 0.6)
    eye = _pair(x, y, EYE_X, EYE_Y, 0.14, 0.09)
    eye_x = x - side * EYE_X
    nose = bump(x, y, 0, -0.12, 0.13, 0.13)
    mouth = bump(x, y, 0, MOUTH_Y, 0.26, 0.13)
    cheek = _pair(x, y, 0.5, -0.3, 0.2, 0.25)
    zero = np.zeros_like(x)
    fields = [
        (0.070 * x, zero, zero),
        (zero, 0.085 * y * smoothstep((-y + 0.2) / 0.6), zero),
        (0.13 * x * low, zero, 0.02 * low * front),
        (zero, -0.05 * bump(x, y, 0, -0.9, 0.3, 0.2), 0.06 * bump(x, y, 0, -0.82, 0.2, 0.14)),
        (side * 0.035 * _pair(x, y, EYE_X, 0.17, 0.16, 0.17), zero, zero),
        (0.16 * eye_x * eye, 0.30 * (y - EYE_Y) * eye, zero),
        (zero, side * eye_x * 0.22 * eye, zero),
        (zero, 0.035 * _pair(x, y, 0.27, BROW_Y, 0.2, 0.07), 0.01 * eye),
        (zero, -0.040 * bump(x, y, 0, -0.17, 0.12, 0.10), 0.01 * nose),
        (0.30 * x * nose, zero, zero),
        (zero, zero, 0.060 * bump(x, y, 0, -0.1, 0.075, 0.13)),
        (0.17 * x * mouth, zero, zero),
        (zero, 0.30 * (y - MOUTH_Y) * bump(x, y, 0, MOUTH_Y, 0.24, 0.085), 0.02 * mouth),
        (zero, 0.035 * bump(x, y, 0, MOUTH_Y, 0.4, 0.16), zero),
        (0.04 * side * cheek, zero, 0.03 * _pair(x, y, 0.4, -0.25, 0.18, 0.18)),
        (zero, 0.07 * smoothstep((y - 0.3) / 0.7), 0.05 * bump(x, y, 0, 0.6, 0.4, 0.2)),
        (0.040 * bump(x, y, 0, -0.14, 0.11, 0.10), zero, zero),
        (zero, 0.12 * x * mouth, zero),
    ]  # fmt: skip
    return _stack(fields, front, everywhere=(0, 1, 2, 15))


def expression_fields(chart: Chart) -> Array:
    """Return the expression basis [E, ..., 3]: displacement for a coefficient of 1 (fully made)."""
    x, y, front = chart.x0, chart.y0, chart.front
    side = np.sign(x)
    corner = _pair(x, y, MOUTH_HALF_WIDTH, MOUTH_Y, 0.12, 0.09)
    right = bump(x, y, MOUTH_HALF_WIDTH, MOUTH_Y, 0.13, 0.10)
    mouth = bump(x, y, 0, MOUTH_Y, 0.26, 0.12)
    eye = _pair(x, y, EYE_X, EYE_Y, 0.16, 0.085)
    brow = _pair(x, y, 0.27, BROW_Y, 0.22, 0.08)
    inner = _pair(x, y, 0.15, BROW_Y, 0.10, 0.08)
    cheek = _pair(x, y, 0.38, -0.2, 0.15, 0.15)
    # The lips part in a thin band of the chart between the corners; beyond them the skin stretches.
    width = MOUTH_BAND + 0.22 * smoothstep((np.abs(x) - 0.13) / 0.13)
    opened = smoothstep((MOUTH_Y + width - y) / (2 * width))
    zero = np.zeros_like(x)
    fields = [
        (-0.10 * x * mouth, -0.24 * opened, -0.05 * opened),
        (side * 0.075 * corner, 0.095 * corner + 0.03 * cheek, -0.02 * corner + 0.03 * cheek),
        (-side * 0.02 * corner, -0.09 * corner, zero),
        (-0.42 * x * mouth, 0.25 * (y - MOUTH_Y) * mouth, 0.09 * mouth),
        (zero, -0.92 * (y - EYE_Y) * np.minimum(eye, 1) - 0.012 * eye, zero),
        (zero, 0.085 * brow + 0.02 * eye, zero),
        (-side * 0.035 * inner, -0.055 * brow - 0.035 * inner, zero),
        (0.075 * right, 0.11 * right, zero),
    ]
    return _stack(fields, front, everywhere=(0,))


def _stack(
    fields: list[tuple[Array, Array, Array]], front: Array, everywhere: tuple[int, ...]
) -> Array:
    stacked = np.stack([np.stack(np.broadcast_arrays(*field), -1) for field in fields])
    for index in range(len(fields)):
        if index not in everywhere:
            stacked[index] *= front[..., None]
    return stacked.astype(np.float32)


@lru_cache(maxsize=1)
def head_model() -> HeadModel:
    """Compute the head on its grid, once per process."""
    rows, columns = grid_angles()
    theta, phi = np.meshgrid(rows, columns, indexing="ij")
    chart = Chart(phi.ravel(), theta.ravel())
    return HeadModel(
        chart=chart,
        mean=skull(chart) + mean_displacement(chart),
        shape_basis=shape_fields(chart),
        expression_basis=expression_fields(chart),
    )


@lru_cache(maxsize=1)
def _stacked_bases() -> Array:
    head = head_model()
    bases = np.concatenate([head.shape_basis, head.expression_basis])
    return bases.reshape(len(bases), -1)


def surface_points(x0: Array, y0: Array) -> tuple[Array, Array, Array]:
    """Return mean [K, 3], shape and expression basis [S or E, K, 3] of chart points (x0, y0)."""
    theta = np.arcsin(np.clip(np.asarray(y0, np.float32) / HALF_HEIGHT, -1, 1))
    reach = HALF_WIDTH * np.maximum(np.cos(theta), 1e-3)
    phi = np.arcsin(np.clip(np.asarray(x0, np.float32) / reach, -1, 1))
    chart = Chart(phi.astype(np.float32), theta.astype(np.float32))
    return skull(chart) + mean_displacement(chart), shape_fields(chart), expression_fields(chart)
