"""Rotations and the projection from head units to the image."""

from __future__ import annotations

import numpy as np

from portraitlab.world.mesh import Array


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Return the rotation [3, 3]: yaw, then pitch, then roll; positive yaw turns to the right."""
    return _rotation(yaw, pitch, roll).astype(np.float32)


def turned_pose(
    yaw: float, pitch: float, roll: float, camera_yaw: float
) -> tuple[float, float, float]:
    """Return yaw, pitch and roll of a head as seen by a camera that has moved around it."""
    seen = _rotation(camera_yaw, 0.0, 0.0) @ _rotation(yaw, pitch, roll)
    return (
        float(np.arctan2(-seen[2, 0], seen[2, 2])),
        float(np.arcsin(np.clip(seen[2, 1], -1, 1))),
        float(np.arctan2(-seen[0, 1], seen[1, 1])),
    )


def _rotation(yaw: float, pitch: float, roll: float) -> Array:
    cy, cp, cr = np.cos([yaw, pitch, roll])
    sy, sp, sr = np.sin([yaw, pitch, roll])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ nod @ turn


def project(points: Array, pose: Array) -> Array:
    """Project points in head units [K, 3] to image fractions [K, 2] by weak perspective."""
    turned = points @ rotation(*pose[:3]).T
    return np.stack(
        [pose[4] + pose[3] * turned[:, 0], pose[5] - pose[3] * turned[:, 1]], -1
    ).astype(np.float32)
