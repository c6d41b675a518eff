"""A person of the world: shape, colours, hair, brows, beard, marks; all from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from portraitlab.world.mesh import SHAPE_NAMES, Array

SHAPE_SIZE = len(SHAPE_NAMES)

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
    """What stays the same in all photos of a person.

    shape [16]: coefficients of the head's shape basis, about unit variance. Colours are RGB in
    [0, 1]. moles [K, 3]: chart position x0, y0 and radius. Strengths (freckles, wrinkles,
    shadows, beard_density) are in [0, 1]; brow numbers are in chart units.
    """

    seed: int
    shape: Array
    skin: Array
    blush: float
    hair_colour: str
    hair: Array
    hair_style: str
    hairline: float
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    brow_darkness: float
    eye_colour: str
    iris: Array
    lips: Array
    eyelid: float
    freckles: float
    wrinkles: float
    shadows: float
    beard: str
    beard_density: float
    moles: Array


@lru_cache(maxsize=512)
def make_identity(seed: int) -> Identity:
    """The identity of a seed; the same seed is the same person everywhere."""
    rng = np.random.default_rng([7101, seed])
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    low = int(tone)
    skin = SKIN_TONES[low] * (1 - tone + low) + SKIN_TONES[min(low + 1, 6)] * (tone - low)
    skin = np.clip(skin + rng.normal(0, 0.018, 3), 0.1, 1).astype(np.float32)
    light = skin.mean() > 0.6
    odds = np.array(
        [0.22, 0.22, 0.16, 0.1, 0.16, 0.08, 0.06]
        if light
        else [0.5, 0.3, 0.06, 0.02, 0.02, 0.06, 0.04]
    )
    hair_colour = str(rng.choice(list(HAIR_COLOURS), p=odds))
    hair = np.array(HAIR_COLOURS[hair_colour], np.float32) / 255
    eye_odds = [0.3, 0.25, 0.17, 0.13, 0.15] if light else [0.45, 0.03, 0.05, 0.04, 0.43]
    eye_colour = str(rng.choice(list(EYE_COLOURS), p=eye_odds))
    bearded = rng.random() < 0.4
    beard = str(rng.choice(BEARDS[1:])) if bearded else "none"
    styles = ["bald", "short", "cropped", "curly", "fringe"] if bearded else list(HAIR_STYLES)
    redness = rng.uniform(0, 1)
    lips = (
        skin * np.array([0.86, 0.60, 0.60]) * (1 - redness) + np.array([0.68, 0.25, 0.27]) * redness
    )
    mole_count = int(rng.choice([0, 1, 2, 3], p=[0.35, 0.35, 0.2, 0.1]))
    moles = np.stack(
        [
            rng.uniform(-0.5, 0.5, mole_count),
            rng.uniform(-0.75, 0.55, mole_count),
            rng.uniform(0.022, 0.042, mole_count),
        ],
        -1,
    )
    return Identity(
        seed=seed,
        shape=np.clip(rng.normal(0, 1, SHAPE_SIZE), -2.3, 2.3).astype(np.float32),
        skin=skin,
        blush=float(rng.uniform(0, 0.5)),
        hair_colour=hair_colour,
        hair=_tinted(hair, 0.02, rng),
        hair_style=str(rng.choice(styles)),
        hairline=float(rng.uniform(0.50, 0.74)),
        brow_thickness=float(rng.uniform(0.020, 0.058)),
        brow_arch=float(rng.uniform(-0.01, 0.06)),
        brow_tilt=float(rng.uniform(-0.16, 0.16)),
        brow_darkness=float(rng.uniform(0.45, 1.0)),
        eye_colour=eye_colour,
        iris=_tinted(np.array(EYE_COLOURS[eye_colour]) / 255, 0.03, rng),
        lips=np.clip(lips, 0, 1).astype(np.float32),
        eyelid=float(rng.uniform(0, 1)),
        freckles=float(rng.uniform(0.3, 1)) if rng.random() < 0.2 else 0.0,
        wrinkles=float(np.clip(rng.normal(0.3, 0.3), 0, 1)),
        shadows=float(rng.uniform(0, 0.6)),
        beard=beard,
        beard_density=float(rng.uniform(0.55, 1.0)),
        moles=moles.astype(np.float32),
    )


def _tinted(colour: Array, deviation: float, rng: np.random.Generator) -> Array:
    """A colour a little off, as no two people's are the same."""
    return np.clip(colour + rng.normal(0, deviation, 3), 0, 1).astype(np.float32)
