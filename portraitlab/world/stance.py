"""Postures of bodies and their joints.

Lengths are head units in the body's frame: the origin is the head's centre, x points to the image's
right, y up, z at the viewer. Sides are those of the image: -1 is the image's left, which is the
person's right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portraitlab.world.mesh import Array

SHOULDER = (1.20, -1.62, -0.12)
HIP = (0.52, -4.40, -0.12)
NECK = (0.0, -1.45, -0.12)
UPPER_ARM, FOREARM, HAND = 1.65, 1.50, 0.62
THIGH, SHIN, FOOT = 1.95, 1.85, 0.42
SOLE = HIP[1] - THIGH - SHIN - FOOT - 0.12
"""Height of the soles of straight legs."""

ARMS = ("down", "bent", "on hip", "raised", "out")
QUIET_ARMS = ARMS[:3]
"""Arms that stay close to the body, so that they cover no neighbour's face."""


@dataclass(frozen=True)
class Limb:
    """Three joints [3]: shoulder, elbow, wrist of an arm, or hip, knee, ankle of a leg."""

    top: Array
    middle: Array
    end: Array


@dataclass(frozen=True)
class Stance:
    """Arms and legs, those on the image's left first."""

    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]


def _direction(side: int, outward: float, forward: float) -> Array:
    """Return a unit vector [3]; outward: degrees from down (0) over outward (90) to up (180)."""
    out, ahead = np.deg2rad(outward), np.deg2rad(forward)
    return np.array(
        [side * np.sin(out) * np.cos(ahead), -np.cos(out) * np.cos(ahead), np.sin(ahead)]
    )


def _limb(
    top: tuple[float, float, float],
    side: int,
    lengths: tuple[float, float],
    upper: tuple[float, float],
    lower: tuple[float, float],
) -> Limb:
    start = np.array([side * top[0], top[1], top[2]])
    middle = start + lengths[0] * _direction(side, *upper)
    return Limb(start, middle, middle + lengths[1] * _direction(side, *lower))


def _arm(kind: str, side: int, rng: np.random.Generator) -> Limb:
    """Draw an arm of a kind, by degrees outward and forward of its upper and lower half."""
    vary = rng.uniform(-1, 1, 4)
    upper, lower = {
        "down": ((13 + 5 * vary[0], 0 + 5 * vary[1]), (6 + 6 * vary[2], 8 + 6 * vary[3])),
        "bent": ((16 + 6 * vary[0], -4 + 4 * vary[1]), (-70 + 25 * vary[2], 38 + 8 * vary[3])),
        "on hip": ((46 + 5 * vary[0], -8 + 4 * vary[1]), (-48 + 4 * vary[2], 14 + 4 * vary[3])),
        "raised": ((70 + 25 * vary[0], 8 + 6 * vary[1]), (168 + 14 * vary[2], 10 + 8 * vary[3])),
        "out": ((72 + 18 * vary[0], 4 + 6 * vary[1]), (84 + 22 * vary[2], 10 + 8 * vary[3])),
    }[kind]
    return _limb(SHOULDER, side, (UPPER_ARM, FOREARM), upper, lower)


def draw_stance(rng: np.random.Generator, kinds: tuple[tuple[str, ...], tuple[str, ...]]) -> Stance:
    """Draw a stance; kinds: arms to choose from, on the image's left and right."""
    apart = rng.uniform(1, 8)
    arms = tuple(
        _arm(str(rng.choice(kind)), side, rng) for side, kind in zip((-1, 1), kinds, strict=True)
    )
    legs = tuple(
        _limb(
            HIP,
            side,
            (THIGH, SHIN),
            (apart + rng.uniform(0, 5), rng.uniform(-2, 8)),
            (apart + rng.uniform(-4, 2), rng.uniform(-10, 0)),
        )
        for side in (-1, 1)
    )
    return Stance((arms[0], arms[1]), (legs[0], legs[1]))


HANGING = Stance(
    arms=(
        _limb(SHOULDER, -1, (UPPER_ARM, FOREARM), (10, 0), (6, 0)),
        _limb(SHOULDER, 1, (UPPER_ARM, FOREARM), (10, 0), (6, 0)),
    ),
    legs=(
        _limb(HIP, -1, (THIGH, SHIN), (2, 0), (2, 0)),
        _limb(HIP, 1, (THIGH, SHIN), (2, 0), (2, 0)),
    ),
)
"""Stance that gives a portrait its joints, few of which are in the frame."""

JOINTS = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
    "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
"""OpenPose's 18 joints in COCO's order; right is the person's, on the left of a frontal image."""
BONES = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12),
    (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Joints that OpenPose's drawing of a skeleton connects."""


def body_joints(stance: Stance) -> Array:
    """Return joints 1 to 13 of JOINTS [13, 3] in the body's frame."""
    limbs = (stance.arms[0], stance.arms[1], stance.legs[0], stance.legs[1])
    points = [NECK, *(point for limb in limbs for point in (limb.top, limb.middle, limb.end))]
    return np.array(points, np.float32)
