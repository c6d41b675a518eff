"""Parts of a person as the rasteriser draws them: grids of vertices with textures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from portraitlab.world.mesh import Array

HEAD, HAIR, SKIN, CLOTHES, GLASSES = 1, 2, 3, 4, 5
"""Labels of the parts in the renderer's label image; 0 is the background."""
PARTS = 16
"""Number of labels per person: those of person number n start at n * PARTS."""


@dataclass(frozen=True)
class Part:
    """A textured grid of vertices.

    vertices [rows * columns, 3]. texture [h, w, 4]: RGB and coverage, stretched over the grid.
    """

    vertices: Array
    rows: int
    columns: int
    texture: Array
    label: int
    turns_with_head: bool
    two_sided: bool = False
    gloss: float = 0.0


def opaque(rgb: Array) -> Array:
    """Return a texture [h, w, 4] of colours [h, w, 3], without holes."""
    return np.concatenate([rgb, np.ones((*rgb.shape[:2], 1), np.float32)], -1)


def flat(colour: Array) -> Array:
    """Return a texture of one colour [3]."""
    return opaque(np.broadcast_to(np.asarray(colour, np.float32), (2, 2, 3)))


def grid(x: Array, y: Array, z: Array) -> Array:
    """Stack coordinates [rows, columns] to vertices [rows * columns, 3]."""
    stacked = np.stack(np.broadcast_arrays(x, y, z), -1)
    return np.ascontiguousarray(stacked.reshape(-1, 3), dtype=np.float32)


@lru_cache(maxsize=32)
def turn(rows: int, columns: int, low: float, high: float) -> tuple[Array, Array]:
    """Return t in [0, 1] down the rows and azimuths from low to high along the columns."""
    t, phi = np.meshgrid(np.linspace(0, 1, rows), np.linspace(low, high, columns), indexing="ij")
    return t.astype(np.float32), phi.astype(np.float32)
