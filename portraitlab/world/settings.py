"""Settings that vary between photos of one person: expression, pose, light, clothes and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from portraitlab.world.mesh import EXPRESSION_NAMES, Array
from portraitlab.world.stance import ARMS, SOLE, Stance, draw_stance

EXPRESSION_SIZE = len(EXPRESSION_NAMES)
POSE_SIZE = 6

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (196, 48, 44),
    "orange": (226, 130, 48),
    "yellow": (230, 200, 72),
    "green": (62, 140, 76),
    "teal": (40, 132, 138),
    "blue": (56, 92, 180),
    "purple": (120, 70, 150),
    "pink": (226, 138, 166),
    "white": (236, 236, 232),
    "grey": (132, 134, 138),
    "black": (36, 36, 40),
    "brown": (122, 84, 58),
}
CLOTHES = ("t-shirt", "shirt", "jacket", "dress")
PATTERNS = ("plain", "striped", "checked", "dotted")
BACKGROUNDS = ("plain", "gradient", "striped", "bokeh", "sky", "room")
STYLES = ("photo", "black and white photo", "vintage photo", "painting")
LIGHTS = ("soft", "warm", "cold", "hard", "harsh", "dim")
GLASSES = ("none", "round", "square", "sunglasses")
FRAMINGS = ("portrait", "varied", "half", "full")
COVERS = ("none", "mask", "scarf", "hand")
"""Covers of a face: a mask over mouth and nose, a scarf up to the lips, a hand."""
SHAVES = ("usual", "stubble", "clean")
MAKEUPS: dict[str, tuple[int, int, int]] = {
    "red": (176, 28, 48), "pink": (214, 92, 130), "plum": (110, 36, 80), "nude": (186, 120, 100),
}  # fmt: skip


@dataclass(frozen=True)
class PhotoSettings:
    """Nuisance variables of one photo.

    expression [8] in about [0, 1]; yaw, pitch, roll of the head in radians; scale: image fraction
    per head unit; x, y: image fractions of the head's centre; light_azimuth (positive: from the
    image's right) and light_elevation in radians; gaze: offset of the irises in chart units;
    blur: standard deviation in image fractions, 0 for a sharp photo; shave: state of the beard, a
    name of SHAVES; other_haircut: True for the person's less usual haircut; makeup: threshold in
    [0, 1], worn by people whose share of photos with makeup is above it; body_turn: the body's yaw
    in radians beyond a third of the head's; framing: see make_settings; stance: posture of arms
    and legs, None for portraits; camera_yaw: radians that the camera has moved around the person,
    which turn background and ambient light (the angles above are in the camera's frame).
    """

    seed: int
    expression: Array
    yaw: float
    pitch: float
    roll: float
    scale: float
    x: float
    y: float
    light: str
    light_azimuth: float
    light_elevation: float
    clothes: str
    clothes_pattern: str
    clothes_colour: str
    background: str
    background_colour: str
    glasses: str
    style: str
    gaze: tuple[float, float]
    exposure: float
    cover: str
    cover_colour: str
    blur: float
    shave: str
    other_haircut: bool
    makeup: float
    makeup_colour: str
    body_turn: float = 0.0
    framing: str = "portrait"
    stance: Stance | None = None
    camera_yaw: float = 0.0

    @property
    def flaws(self) -> tuple[str, ...]:
        """Names of the flaws that make the photo a poor reference; empty for a good one."""
        found = {
            "blurred": self.blur > 0,
            f"{self.light} light": self.light in ("harsh", "dim"),
            self.cover: self.cover != "none",
            self.glasses: self.glasses == "sunglasses",
        }
        return tuple(flaw for flaw, there in found.items() if there)

    @property
    def body_yaw(self) -> float:
        """Yaw of the shoulders: a third of the head's, plus body_turn."""
        return self.yaw / 3 + self.body_turn

    @property
    def pose(self) -> Array:
        """Pose [6] as in FaceCoefficients: yaw, pitch, roll, scale, x, y."""
        return np.array([self.yaw, self.pitch, self.roll, self.scale, self.x, self.y], np.float32)


def pick(
    rng: np.random.Generator, options: Sequence[str], odds: tuple[float, ...] | None = None
) -> str:
    """Draw one of the options: the same draw as rng.choice, in less time."""
    if odds is None:
        return options[int(rng.integers(len(options)))]
    return options[int(_cumulated(odds).searchsorted(rng.random(), side="right"))]


@lru_cache(maxsize=32)
def _cumulated(odds: tuple[float, ...]) -> Array:
    total = np.cumsum(odds)
    return total / total[-1]


def make_settings(identity_seed: int, photo_seed: int, framing: str = "portrait") -> PhotoSettings:
    """Draw the settings of one photo; the same arguments give the same settings everywhere.

    framing: "portrait", all heads of about the same size and place; "varied", heads from .25 to
    .50 of the width, as FaceSnap's templates have them; "half" or "full", a body with a head unit
    near .22 or .095 of the width (FPGA's tables 1 and 2).

    Raises:
        ValueError: an unknown framing.
    """
    if framing not in FRAMINGS:
        raise ValueError(f"framing={framing!r} is unknown; choose {' or '.join(FRAMINGS)}")
    number = FRAMINGS.index(framing)
    rng = np.random.default_rng([7102, identity_seed, photo_seed] + ([number] if number else []))
    light = pick(rng, LIGHTS, (0.36, 0.18, 0.18, 0.16, 0.06, 0.06))
    side = rng.uniform(0.9, 1.4) * rng.choice([-1, 1])
    settings = PhotoSettings(
        seed=photo_seed,
        expression=_expression(rng),
        yaw=float(np.clip(rng.normal(0, 0.30), -0.75, 0.75)),
        pitch=float(np.clip(rng.normal(0, 0.13), -0.35, 0.35)),
        roll=float(np.clip(rng.normal(0, 0.12), -0.35, 0.35)),
        scale=float(rng.uniform(0.40, 0.45)),
        x=float(0.5 + rng.normal(0, 0.02)),
        y=float(0.44 + rng.normal(0, 0.018)),
        light=light,
        light_azimuth=float(side if light == "harsh" else rng.uniform(-1.2, 1.2)),
        light_elevation=float(rng.uniform(0.1, 0.9)),
        clothes=pick(rng, CLOTHES),
        clothes_pattern=pick(rng, PATTERNS, (0.55, 0.15, 0.15, 0.15)),
        clothes_colour=pick(rng, tuple(COLOURS)),
        background=pick(rng, BACKGROUNDS),
        background_colour=pick(rng, tuple(COLOURS)),
        glasses=pick(rng, GLASSES, (0.82, 0.075, 0.075, 0.03)),
        style=pick(rng, STYLES, (0.82, 0.06, 0.06, 0.06)),
        gaze=(float(rng.normal(0, 0.018)), float(rng.normal(0, 0.006))),
        exposure=float(rng.uniform(0.9, 1.1)),
        cover=pick(rng, COVERS, (0.92, 0.025, 0.025, 0.03)),
        cover_colour=pick(rng, tuple(COLOURS)),
        blur=float(rng.uniform(0.012, 0.026)) if rng.random() < 0.08 else 0.0,
        shave=pick(rng, SHAVES, (0.75, 0.15, 0.1)),
        other_haircut=bool(rng.random() < 0.2),
        makeup=float(rng.random()),
        makeup_colour=pick(rng, tuple(MAKEUPS)),
    )
    if framing in ("half", "full"):
        return _with_body(settings, framing, rng)
    return settings if framing == "portrait" else _placed_anywhere(settings, rng)


def _placed_anywhere(settings: PhotoSettings, rng: np.random.Generator) -> PhotoSettings:
    """Redraw size and place of the head, which stays inside the image."""
    scale = rng.uniform(0.25, 0.50)
    aside = 0.6 * (0.5 - 0.85 * scale)
    return replace(
        settings,
        scale=float(scale),
        x=float(0.5 + rng.uniform(-aside, aside)),
        y=float(rng.uniform(max(0.30, 1.0 * scale), 0.52)),
    )


def _with_body(settings: PhotoSettings, framing: str, rng: np.random.Generator) -> PhotoSettings:
    """Draw size, place and stance of a body; a hand does not cover the face."""
    scale = rng.uniform(0.20, 0.24) if framing == "half" else rng.uniform(0.090, 0.097)
    highest = 1.2 * scale + 0.005
    lowest = highest + 0.10 if framing == "half" else 0.99 + SOLE * scale
    return replace(
        settings,
        framing=framing,
        stance=draw_stance(rng, (ARMS, ARMS)),
        body_turn=float(rng.uniform(-0.35, 0.35)),
        scale=float(scale),
        x=float(0.5 + rng.normal(0, 0.03)),
        y=float(rng.uniform(highest, lowest)),
        cover="none" if settings.cover == "hand" else settings.cover,
        blur=settings.blur * float(scale) / settings.scale,
    )


def _expression(rng: np.random.Generator) -> Array:
    """Draw an expression [8]: one distinct expression over a faint mixture."""
    jaw, smile, sad, pucker, closed, up, down, smirk = range(EXPRESSION_SIZE)
    made = {
        "neutral": {},
        "smile": {smile: 0.9},
        "laugh": {smile: 1.0, jaw: 0.7, closed: 0.25},
        "sad": {sad: 1.0, up: 0.4},
        "angry": {down: 1.0, sad: 0.4},
        "surprise": {jaw: 0.8, up: 1.0},
        "talking": {jaw: 0.4},
        "kiss": {pucker: 0.9},
        "smirk": {smirk: 1.0},
        "blink": {closed: 0.9},
    }
    odds = (0.2, 0.18, 0.12, 0.07, 0.08, 0.1, 0.1, 0.05, 0.06, 0.04)
    values = rng.uniform(0, 0.18, EXPRESSION_SIZE)
    for index, strength in made[pick(rng, tuple(made), odds)].items():
        values[index] = strength * rng.uniform(0.6, 1.15)
    return np.clip(values, 0, 1.2).astype(np.float32)
