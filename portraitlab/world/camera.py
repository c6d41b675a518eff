"""Rotations and the projection from head units to the image."""

from __future__ import annotations

import numpy as np

from portraitlab.world.mesh import Array


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """[3, 3]: roll after pitch after yaw; positive yaw turns to the image's right."""
    cy, cp, cr = np.cos([yaw, pitch, roll])
    sy, sp, sr = np.sin([yaw, pitch, roll])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


def project(points: Array, pose: Array) -> Array:
    """Weak perspective: head units [K, 3] to image fractions [K, 2]."""
    turned = points @ rotation(*pose[:3]).T
    return np.stack(
        [pose[4] + pose[3] * turned[:, 0], pose[5] - pose[3] * turned[:, 1]], -1
    ).astype(np.float32)
