"""Identities of the world: shape, colours, hair, brows, beard and marks, all from one seed.

Some people are a family: they share the head's shape and the colouring, which are seen at a glance,
and differ in details: brows, eyes, nose, mouth and marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from portraitlab.world.mesh import SHAPE_NAMES, Array

SHAPE_SIZE = len(SHAPE_NAMES)
STRUCTURE = ("face width", "face length", "jaw width", "chin", "cheeks", "forehead")
"""Shape coefficients that a family shares; the others differ per person."""

FAMILY_SIZE, FAMILY_EVERY = 4, 16
"""The last FAMILY_SIZE of every FAMILY_EVERY successive seeds are a family."""

SKIN_TONES = np.array(
    [[250, 222, 205], [240, 200, 172], [222, 176, 140], [196, 146, 108], [160, 110, 78],
     [120, 80, 56], [88, 58, 42]], np.float32,
) / 255  # fmt: skip
HAIR_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (28, 24, 26),
    "dark brown": (62, 42, 32),
    "brown": (104, 70, 44),
    "red": (150, 70, 36),
    "blonde": (214, 178, 112),
    "grey": (150, 150, 152),
    "white": (222, 220, 216),
}
HAIR_STYLES = ("bald", "short", "cropped", "curly", "fringe", "long", "wavy", "bob")
EYE_COLOURS: dict[str, tuple[int, int, int]] = {
    "brown": (84, 54, 34),
    "blue": (80, 126, 176),
    "green": (84, 124, 84),
    "grey": (124, 134, 140),
    "dark": (38, 26, 22),
}
BEARDS = ("none", "stubble", "moustache", "goatee", "full beard")


@dataclass(frozen=True, eq=False)
class Identity:
    """Properties of a person that are the same in all photos.

    shape [18]: coefficients of the head's shape basis, about unit variance. Colours are RGB in
    [0, 1]. moles and birthmarks [K, 3]: chart position x0, y0 and radius; scars [K, 4]: chart
    position, angle and half length. Strengths (freckles, wrinkles, shadows, beard_density) are in
    [0, 1]; brow numbers and iris_size are in chart units. brow_skew: height of one brow above the
    other. parting: side on which hair falls lower, -1 left to 1 right. hair_style and beard are
    the usual ones, other_style the haircut of some photos. makeup: share of photos with makeup.
    """

    seed: int
    shape: Array
    skin: Array
    blush: float
    hair_colour: str
    hair: Array
    hair_style: str
    other_style: str
    parting: float
    hairline: float
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    brow_skew: float
    brow_darkness: float
    eye_colour: str
    iris: Array
    iris_size: float
    lips: Array
    makeup: float
    eyelid: float
    freckles: float
    wrinkles: float
    shadows: float
    beard: str
    beard_density: float
    moles: Array
    birthmarks: Array
    scars: Array


def family_of(seed: int) -> int | None:
    """Return the family number of a seed; None for a person without look-alikes."""
    block, place = divmod(seed, FAMILY_EVERY)
    return block if place >= FAMILY_EVERY - FAMILY_SIZE else None


@lru_cache(maxsize=512)
def make_identity(seed: int) -> Identity:
    """Draw the identity of a seed; the same seed gives the same person everywhere."""
    family = family_of(seed)
    shared = np.random.default_rng([7101, seed] if family is None else [7107, family])
    own = np.random.default_rng([7108, seed])

    # Draw what a family shares: skin, hair, beard and structure.
    tone = shared.uniform(0, len(SKIN_TONES) - 1)
    low = int(tone)
    skin = SKIN_TONES[low] * (1 - tone + low) + SKIN_TONES[min(low + 1, 6)] * (tone - low)
    skin = np.clip(skin + shared.normal(0, 0.018, 3), 0.1, 1).astype(np.float32)
    light = skin.mean() > 0.6
    odds = np.array(
        [0.22, 0.22, 0.16, 0.1, 0.16, 0.08, 0.06]
        if light
        else [0.5, 0.3, 0.06, 0.02, 0.02, 0.06, 0.04]
    )
    hair_colour = str(shared.choice(list(HAIR_COLOURS), p=odds))
    hair = _tinted(np.array(HAIR_COLOURS[hair_colour]) / 255, 0.02, shared)
    bearded = shared.random() < 0.4
    beard = str(shared.choice(BEARDS[1:])) if bearded else "none"
    styles = ["bald", "short", "cropped", "curly", "fringe"] if bearded else list(HAIR_STYLES)
    hair_style = str(shared.choice(styles))
    structure = np.clip(shared.normal(0, 1, SHAPE_SIZE), -2.3, 2.3)

    # Draw what is the person's own.
    features = np.clip(own.normal(0, 1, SHAPE_SIZE), -2.3, 2.3)
    common = np.isin(SHAPE_NAMES, STRUCTURE)
    eye_odds = [0.3, 0.25, 0.17, 0.13, 0.15] if light else [0.45, 0.03, 0.05, 0.04, 0.43]
    eye_colour = str(own.choice(list(EYE_COLOURS), p=eye_odds))
    redness = own.uniform(0, 1)
    lips = (
        skin * np.array([0.86, 0.60, 0.60]) * (1 - redness) + np.array([0.68, 0.25, 0.27]) * redness
    )
    return Identity(
        seed=seed,
        shape=np.where(common, structure, features).astype(np.float32),
        skin=skin,
        blush=float(own.uniform(0, 0.5)),
        hair_colour=hair_colour,
        hair=hair,
        hair_style=hair_style,
        other_style="bald" if hair_style == "bald" else str(own.choice(styles[1:])),
        parting=float(own.uniform(-1, 1)),
        hairline=float(own.uniform(0.50, 0.74)),
        brow_thickness=float(own.uniform(0.018, 0.066)),
        brow_arch=float(own.uniform(-0.01, 0.06)),
        brow_tilt=float(own.uniform(-0.2, 0.2)),
        brow_skew=float(own.normal(0, 0.014)),
        brow_darkness=float(own.uniform(0.4, 1.0)),
        eye_colour=eye_colour,
        iris=_tinted(np.array(EYE_COLOURS[eye_colour]) / 255, 0.03, own),
        iris_size=float(own.uniform(0.058, 0.082)),
        lips=np.clip(lips, 0, 1).astype(np.float32),
        makeup=float(own.uniform(0.2, 0.7)) if beard == "none" and own.random() < 0.4 else 0.0,
        eyelid=float(own.uniform(0, 1)),
        freckles=float(own.uniform(0.3, 1)) if own.random() < 0.2 else 0.0,
        wrinkles=float(np.clip(own.normal(0.3, 0.3), 0, 1)),
        shadows=float(own.uniform(0, 0.6)),
        beard=beard,
        beard_density=float(own.uniform(0.55, 1.0)),
        moles=_marks(own, [0.3, 0.35, 0.2, 0.15], (0.026, 0.05)),
        birthmarks=_marks(own, [0.85, 0.15], (0.07, 0.15)),
        scars=_scars(own),
    )


def _marks(rng: np.random.Generator, odds: list[float], radius: tuple[float, float]) -> Array:
    """Draw round marks on the face [K, 3]; odds: probabilities of K = 0, 1, 2 …"""
    count = int(rng.choice(len(odds), p=odds))
    x, y = rng.uniform(-0.5, 0.5, count), rng.uniform(-0.75, 0.55, count)
    return np.stack([x, y, rng.uniform(*radius, count)], -1).astype(np.float32)


def _scars(rng: np.random.Generator) -> Array:
    """Draw scars on brow, cheek or chin [K, 4]; most people have none."""
    count = int(rng.random() < 0.15)
    x = rng.choice([-1, 1], count) * rng.uniform(0.15, 0.45, count)
    y, angle = rng.uniform(-0.7, 0.5, count), rng.uniform(0, np.pi, count)
    return np.stack([x, y, angle, rng.uniform(0.07, 0.14, count)], -1).astype(np.float32)


def _tinted(colour: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Draw a colour near the given one, so that no two people share it."""
    return np.clip(colour + rng.normal(0, deviation, 3), 0, 1).astype(np.float32)
