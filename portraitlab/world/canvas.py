"""The larger canvas: half bodies, full bodies and groups, as pure functions of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from portraitlab.world.identity import Identity, make_identity
from portraitlab.world.photo import Photo
from portraitlab.world.render import render_scene
from portraitlab.world.settings import PhotoSettings, make_settings
from portraitlab.world.stance import ARMS, QUIET_ARMS, SOLE, draw_stance

CANVAS_FRAMINGS = ("half", "full", "group")
GROUP_SCALES = {
    "half": {2: (0.155, 0.185), 3: (0.122, 0.140), 4: (0.100, 0.112)},
    "full": {2: (0.087, 0.093), 3: (0.085, 0.091), 4: (0.078, 0.086)},
}
"""Smallest and largest image fraction of a head unit, by framing and number of bodies."""
SCENERY = (
    "light", "light_azimuth", "light_elevation", "background", "background_colour", "style",
    "exposure",
)  # fmt: skip
"""Settings of the first person that all people of a group share."""
Scene = list[tuple[Identity, PhotoSettings]]


def make_canvas(identity_seeds: Sequence[int], photo_seed: int, framing: str) -> Scene:
    """Draw identities and settings of one photo; later people are in front of earlier ones.

    framing: "half" or "full", one body; or "group", two to four half or full bodies at random
    places, which may overlap, under one light and style.

    Raises:
        ValueError: an unknown framing, or a number of people that does not fit it.
    """
    if framing not in CANVAS_FRAMINGS:
        raise ValueError(f"framing={framing!r} is unknown; choose {', '.join(CANVAS_FRAMINGS)}")
    numbers, number = ((2, 3, 4) if framing == "group" else (1,)), len(identity_seeds)
    if number not in numbers:
        fitting = "2 to 4 people" if framing == "group" else "one person"
        raise ValueError(f"framing={framing!r} shows {fitting}; got {number} identity seeds")
    if framing == "group":
        return _group(identity_seeds, photo_seed)
    (seed,) = identity_seeds
    return [(make_identity(seed), make_settings(seed, photo_seed, framing))]


def _group(identity_seeds: Sequence[int], photo_seed: int) -> Scene:
    """Draw a group's places, then each person's settings as for a photo of their own."""
    rng = np.random.default_rng([7110, photo_seed, *identity_seeds])
    count = len(identity_seeds)
    framing = "half" if rng.random() < 0.65 else "full"
    low, high = GROUP_SCALES[framing][count]
    common = rng.uniform(low, high)
    # Place full bodies on one ground, and heads of half bodies at about the same height.
    if framing == "full":
        lowest, anchor, unevenly = 0.97 + SOLE * common, SOLE, 0.08
    else:
        lowest, anchor, unevenly = 0.55, 0.0, 0.35
    height = rng.uniform(1.3 * common + 0.01, lowest)

    # Assign the places, from left to right, to people at random; only outer arms may reach out.
    spread = rng.uniform(0.85, 1.0) if count < 4 else 1.0
    places = rng.permutation(count)
    first = make_settings(identity_seeds[0], photo_seed, framing)
    scenery = {name: getattr(first, name) for name in SCENERY}
    scenery["blur"] = first.blur * common / first.scale
    scene: Scene = []
    for seed, place in zip(identity_seeds, places, strict=True):
        own = make_settings(seed, photo_seed, framing)
        scale = common * rng.uniform(0.96, 1.04)
        settings = replace(
            own,
            scale=float(scale),
            x=float(0.5 + spread * ((place + 0.5) / count - 0.5) + rng.normal(0, 0.12) * common),
            y=float(height + anchor * (scale - common) + rng.uniform(-1, 1) * unevenly * common),
            stance=draw_stance(
                rng,
                (
                    ARMS if place == 0 else QUIET_ARMS,
                    ARMS if place == count - 1 else QUIET_ARMS,
                ),
            ),
            body_turn=float(rng.uniform(-0.35, 0.35)),
            cover="none",
            **scenery,
        )
        scene.append((make_identity(seed), settings))
    return scene


def render_canvas(
    identity_seeds: Sequence[int], photo_seed: int, framing: str, size: int = 128
) -> Photo:
    """Render a half body, a full body or a group; the same arguments give the same pixels.

    Raises:
        ValueError: see make_canvas.
    """
    return render_scene(make_canvas(identity_seeds, photo_seed, framing), size)
