"""Geometry of arms, hands, legs, shoes and skirts around a stance's joints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from portraitlab.world.identity import Identity
from portraitlab.world.mesh import Array
from portraitlab.world.parts import CLOTHES, SKIN, Part, flat, grid, turn
from portraitlab.world.settings import COLOURS, PhotoSettings
from portraitlab.world.stance import FOOT, HAND

LIMBS_FROM = 2.4
"""Head units below the head's centre that the frame must show for limbs to be drawn."""
TROUSERS, SHOES = flat(np.array([0.20, 0.22, 0.30])), flat(np.array([0.12, 0.1, 0.1]))
Vector = Sequence[float]


def limb_parts(identity: Identity, settings: PhotoSettings, fabric: Array) -> list[Part]:
    """Build the limbs of a person; fabric [h, w, 4]: texture of sleeves and skirt.

    A portrait has no stance, and shows the tops of hanging arms at most.
    """
    if settings.y + LIMBS_FROM * settings.scale >= 1:
        return []
    if settings.stance is None:
        sleeve = flat(np.array(COLOURS[settings.clothes_colour]) / 255 * 0.9)
        return [
            _tube((side * 1.40, -1.75, -0.12), (side * 0.12 * 3.0, -3.0, 0.0), 0.27, 0.35, sleeve)
            for side in (-1, 1)
        ]
    bare = flat(identity.skin * 0.93)
    forearm = fabric if settings.clothes in ("shirt", "jacket") else bare
    leg = bare if settings.clothes == "dress" else TROUSERS
    parts = []
    for arm in settings.stance.arms:
        along = (arm.end - arm.middle) / np.linalg.norm(arm.end - arm.middle)
        parts += [
            _bone(arm.top, arm.middle, (0.32, 0.24), fabric),
            _bone(arm.middle - 0.12 * along, arm.end, (0.24, 0.17), forearm),
            _bone(arm.end - 0.10 * along, arm.end + HAND * along, (0.24, 0.20), bare, SKIN),
        ]
    for limb in settings.stance.legs:
        along = (limb.end - limb.middle) / np.linalg.norm(limb.end - limb.middle)
        toe = limb.end + np.array([0.35 * (limb.end[0] - limb.middle[0]), -FOOT, 0.35])
        parts += [
            _bone(limb.top, limb.middle + 0.2 * along, (0.50, 0.36), leg),
            _bone(limb.middle - 0.2 * along, limb.end, (0.36, 0.24), leg),
            _bone(limb.end - 0.1 * along, toe, (0.25, 0.34), SHOES),
        ]
    return [*parts, _skirt(fabric)] if settings.clothes == "dress" else parts


@lru_cache(maxsize=1)
def _rings() -> tuple[Array, Array, Array, Array]:
    """Return position along a tube, rounding of its ends and angle of its points [10, 13]."""
    t, phi = turn(10, 13, -np.pi, np.pi)
    ends = np.sqrt(np.clip(1 - (2 * t - 1) ** 10, 0.02, 1))
    return t, ends, np.sin(phi), np.cos(phi)


def _tube(
    start: Vector,
    step: Vector,
    radius: float,
    taper: float,
    texture: Array,
    label: int = CLOTHES,
    across: Vector = (1.0, 0.0, 0.0),
    ahead: Vector = (0.0, 0.0, 1.0),
) -> Part:
    """Build a tube with rounded ends, whose rings are in the plane of two unit vectors."""
    t, ends, sine, cosine = _rings()
    thin = radius * (1 - taper * t) * ends
    right, front = thin * sine, thin * cosine
    x, y, z = (start[k] + step[k] * t + across[k] * right + ahead[k] * front for k in range(3))
    return Part(grid(x, y, z), 10, 13, texture, label, False)


def _bone(
    start: Array, end: Array, radii: tuple[float, float], texture: Array, label: int = CLOTHES
) -> Part:
    """Build a tube around the line between two points [3], with a radius at each."""
    step = end - start
    down = step / np.linalg.norm(step)
    viewer = np.array([0.0, 0.0, 1.0])
    ahead = viewer - viewer @ down * down
    ahead /= np.linalg.norm(ahead)
    taper = 1 - radii[1] / radii[0]
    (ax, ay, az), (dx, dy, dz) = ahead.tolist(), down.tolist()
    across = (ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx)
    return _tube(
        start.tolist(), step.tolist(), radii[0], taper, texture, label, across, ahead.tolist()
    )


def _skirt(fabric: Array) -> Part:
    t, phi = turn(8, 25, -np.pi, np.pi)
    wide, deep = 1.03 + 0.42 * t, 0.62 + 0.32 * t
    vertices = grid(wide * np.sin(phi), -4.5 - 1.9 * t, -0.12 + deep * np.cos(phi))
    return Part(vertices, 8, 25, fabric, CLOTHES, False)
