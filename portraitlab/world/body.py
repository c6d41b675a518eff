"""Geometry and textures of a person: head, hair, ears, neck, clothes, limbs, glasses, covers.

Vertices are in head units around the head's centre, before the head's or the body's rotation.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from portraitlab.world.appearance import worn_style
from portraitlab.world.identity import Identity
from portraitlab.world.landmarks import landmark_model
from portraitlab.world.limbs import limb_parts
from portraitlab.world.mesh import (
    COLUMNS,
    HALF_DEPTH,
    HALF_WIDTH,
    ROWS,
    Array,
    head_model,
    smoothstep,
)
from portraitlab.world.parts import (
    CLOTHES,
    GLASSES,
    HAIR,
    HEAD,
    SKIN,
    Part,
    flat,
    grid,
    opaque,
    turn,
)
from portraitlab.world.raster import grid_normals
from portraitlab.world.settings import COLOURS, PhotoSettings
from portraitlab.world.texture import HEIGHT, WIDTH, head_texture, noise, texel_chart

SLEEVES = np.s_[14:50, 2:26]
"""Part of the clothes' texture, beside the back, that sleeves and skirts are cut from."""


def person_parts(identity: Identity, settings: PhotoSettings) -> list[Part]:
    """Build all parts of a person, dressed by the photo's settings."""
    head = head_model().vertices(identity.shape, settings.expression)
    clothes = _clothes_texture(identity, settings)
    return [
        Part(head, ROWS, COLUMNS, head_texture(identity, settings), HEAD, True, gloss=0.10),
        *_ears(identity),
        *_hair(identity, head, worn_style(identity, settings)),
        *_glasses(identity, settings),
        *_cover(identity, settings, head),
        _neck(identity),
        _torso(identity, clothes),
        *limb_parts(identity, settings, clothes[SLEEVES].copy()),
    ]


def _broad(identity: Identity) -> float:
    """Return the width of the head relative to the mean head."""
    return 1 + 0.07 * float(identity.shape[0])


@lru_cache(maxsize=256)
def _ears(identity: Identity) -> list[Part]:
    broad = _broad(identity)
    t, phi = turn(8, 11, -np.pi, np.pi)
    theta = (0.5 - t) * np.pi
    parts = []
    for side in (-1, 1):
        x = side * HALF_WIDTH * broad * 1.0 + 0.075 * np.cos(theta) * np.sin(phi)
        z = -0.06 + 0.10 * np.cos(theta) * np.cos(phi)
        vertices = grid(x, 0.02 + 0.17 * np.sin(theta), z)
        parts.append(Part(vertices, 8, 11, flat(identity.skin * 0.93), SKIN, True))
    return parts


HAIR_THICKNESS = {
    "bald": 0.012, "cropped": 0.025, "short": 0.075, "curly": 0.15, "fringe": 0.085,
    "long": 0.08, "wavy": 0.11, "bob": 0.10,
}  # fmt: skip
HAIR_LENGTH = {"long": -1.45, "wavy": -1.25, "bob": -0.60}


@lru_cache(maxsize=256)
def _hair_texture(identity: Identity, style: str) -> Array:
    """Paint colour and coverage of the scalp's hair over the head's grid [HEIGHT, WIDTH, 4]."""
    rng = np.random.default_rng([7104, identity.seed])
    chart = texel_chart()
    phi = chart.phi[0]
    around = np.abs(phi)
    top = 0.36 if style == "fringe" else identity.hairline
    edge = np.interp(
        around,
        [0.0, 0.55, 0.95, 1.2, 1.45, 1.7, 2.2, np.pi],
        [top, top + 0.02, min(top, 0.46), 0.20, 0.02, -0.05, -0.5, -0.58],
    )
    # Hair falls lower on the side that it is parted to.
    edge = edge - 0.09 * identity.parting * np.sin(phi) * (around < 1.3)
    jagged = 0.05 if style in ("fringe", "curly", "wavy") else 0.025
    cover = chart.y0 > edge + jagged * noise(rng, 2, 60, (HEIGHT, WIDTH))
    if style == "bald":
        cover &= (chart.y0 < 0.38) & (around > 1.15)
    grain = (6, 80) if style != "curly" else (40, 50)
    strands = noise(rng, *grain, (HEIGHT, WIDTH))
    texture = np.empty((HEIGHT, WIDTH, 4), np.float32)
    texture[..., :3] = np.clip(identity.hair * (1 + 0.13 * strands[..., None]), 0, 1)
    texture[..., 3] = cover
    return texture


@lru_cache(maxsize=256)
def _hair_offset(identity: Identity, style: str) -> Array:
    """Return the thickness of the hair at each vertex of the head [V, 1]."""
    rng = np.random.default_rng([7105, identity.seed])
    thickness = HAIR_THICKNESS[style] * np.ones((ROWS, COLUMNS), np.float32)
    if style in ("curly", "wavy"):
        thickness += 0.035 * noise(rng, 12, 16, (ROWS, COLUMNS))
    return (
        thickness.reshape(-1, 1) * (0.6 + 0.5 * smoothstep(head_model().chart.y0 / 0.8))[:, None]
    ).astype(np.float32)


def _hair(identity: Identity, head: Array, style: str) -> list[Part]:
    shell = (head + _hair_offset(identity, style) * grid_normals(head, ROWS, COLUMNS)).astype(
        np.float32
    )
    hair = _hair_texture(identity, style)
    return [Part(shell, ROWS, COLUMNS, hair, HAIR, True, gloss=0.12), *_falling(identity, style)]


@lru_cache(maxsize=256)
def _falling(identity: Identity, style: str) -> list[Part]:
    """Build the hair that falls below the head."""
    if style not in HAIR_LENGTH:
        return []
    rows, columns = 14, 33
    t, phi = turn(rows, columns, 1.12, 2 * np.pi - 1.12)
    y = 0.62 + t * (HAIR_LENGTH[style] - 0.62)
    wide = 0.80 + 0.24 * smoothstep(t / 0.35) + 0.05 * t
    if style == "wavy":
        wide = wide + 0.035 * np.sin(t * 16 + 3 * phi)
    x = HALF_WIDTH * _broad(identity) * 1.12 * wide * np.sin(phi)
    z = HALF_DEPTH * 1.05 * wide * np.cos(phi) * np.where(np.cos(phi) > 0, 0.6, 1)
    texture = _hair_texture(identity, style)[:, ::2].copy()
    texture[..., 3] = 1
    return [Part(grid(x, y, z), rows, columns, texture, HAIR, True, two_sided=True, gloss=0.10)]


def _glasses(identity: Identity, settings: PhotoSettings) -> list[Part]:
    if settings.glasses == "none":
        return []
    eyes = landmark_model().points(identity.shape, settings.expression * 0)[68:70]
    power = 0.45 if settings.glasses == "square" else 1.0
    # The lenses of sunglasses are as dark as their frame.
    inner = 0.0 if settings.glasses == "sunglasses" else 0.150
    t, phi = turn(2, 25, -np.pi, np.pi)
    parts = []
    frame = flat(np.array([0.07, 0.06, 0.07]))
    for eye, side in zip(eyes, (-1, 1), strict=True):
        radius = inner + (0.184 - inner) * t
        x = eye[0] + radius * 1.12 * np.sign(np.sin(phi)) * np.abs(np.sin(phi)) ** power
        y = eye[1] - 0.01 + radius * 0.92 * np.sign(np.cos(phi)) * np.abs(np.cos(phi)) ** power
        parts.append(
            Part(grid(x, y, eye[2] + 0.13 + 0 * x), 2, 25, frame, GLASSES, True, two_sided=True)
        )
        edge = abs(eye[0]) + 0.19
        ends = np.array([[side * edge, eye[2] + 0.12], [side * HALF_WIDTH * 1.06, -0.05]])
        x = np.stack([ends[:, 0], ends[:, 0]])
        z = np.stack([ends[:, 1], ends[:, 1]])
        y = eye[1] + np.array([[0.03, 0.03], [0.0, 0.0]])
        parts.append(Part(grid(x, y, z), 2, 2, frame, GLASSES, True, two_sided=True))
    x = np.array([[eyes[0, 0] + 0.15, eyes[1, 0] - 0.15]] * 2)
    y = eyes[:, 1].mean() + np.array([[0.035, 0.035], [0.005, 0.005]])
    parts.append(
        Part(
            grid(x, y, eyes[:, 2].mean() + 0.15 + 0 * x),
            2,
            2,
            frame,
            GLASSES,
            True,
            two_sided=True,
        )
    )
    return parts


def _cover(identity: Identity, settings: PhotoSettings, head: Array) -> list[Part]:
    """Build a mask, scarf or hand as a shell over a part of the head."""
    if settings.cover == "none":
        return []
    rng = np.random.default_rng([7109, identity.seed, settings.seed])
    chart = texel_chart()
    x, y, front = chart.x0, chart.y0, np.abs(chart.phi) < 1.35
    colour = np.array(COLOURS[settings.cover_colour], np.float32) / 255
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    if settings.cover == "mask":
        image[:] = colour * 0.35 + 0.6
        image[np.sin(y * 45) > 0.8] *= 0.9
        covered = front & (y < -0.06 - 0.1 * np.abs(x)) & (y > -0.93)
        away, label = 0.045, CLOTHES
    elif settings.cover == "scarf":
        image[:] = colour * (0.85 + 0.1 * noise(rng, 30, 8, x.shape)[..., None])
        covered = y < -0.36 + 0.05 * np.sin(6 * chart.phi + rng.uniform(0, 6))
        away, label = 0.10, CLOTHES
    else:
        # Four fingers, from one side over cheek and mouth or over brow and eye.
        image[:] = identity.skin * 0.97
        low = rng.uniform(-0.62, 0.02)
        finger = (y - low) / 0.125 - rng.uniform(-0.5, 0.5) * x
        image[(finger % 1) < 0.16] *= 0.62
        reach = rng.uniform(-0.15, 0.2) - 0.05 * (np.floor(finger) - 1.5) ** 2
        inward = rng.choice([-1.0, 1.0]) * x
        covered = front & (finger > 0) & (finger < 4) & (inward > reach)
        away, label = 0.07, SKIN
    shell = (head + away * grid_normals(head, ROWS, COLUMNS)).astype(np.float32)
    texture = np.concatenate([np.clip(image, 0, 1), covered[..., None]], -1).astype(np.float32)
    return [Part(shell, ROWS, COLUMNS, texture, label, True)]


@lru_cache(maxsize=256)
def _neck(identity: Identity) -> Part:
    t, phi = turn(8, 17, -np.pi, np.pi)
    radius = 0.37 + 0.09 * smoothstep((t - 0.6) / 0.4)
    vertices = grid(radius * np.sin(phi), -0.45 - 1.0 * t, -0.10 + radius * np.cos(phi))
    return Part(vertices, 8, 17, flat(identity.skin * 0.90), SKIN, False)


def _torso(identity: Identity, clothes: Array) -> Part:
    rows, columns = 22, 33
    t, phi = turn(rows, columns, -np.pi, np.pi)
    y = -1.06 - 3.7 * t**1.25
    build = 1 + 0.05 * float(identity.shape[2])
    wide = (
        np.interp(
            y,
            [-4.8, -3.6, -2.1, -1.62, -1.36, -1.2, -1.06],
            [1.05, 1.0, 1.42, 1.46, 1.25, 0.72, 0.40],
        )
        * build
    )
    deep = np.interp(y, [-4.8, -2.1, -1.4, -1.06], [0.6, 0.66, 0.52, 0.38])
    vertices = grid(wide * np.sin(phi), y, -0.12 + deep * np.cos(phi))
    return Part(vertices, rows, columns, clothes, CLOTHES, False)


def _clothes_texture(identity: Identity, settings: PhotoSettings) -> Array:
    colour = np.array(COLOURS[settings.clothes_colour], np.float32) / 255
    second = colour * 0.45 if colour.mean() > 0.45 else colour * 0.4 + 0.55
    white = np.full(3, 0.92, np.float32)
    bare = identity.skin * 0.95
    dyes: list[Array] = [colour, second, second * 0.8, white, colour * 0.6, bare]
    return opaque(np.stack(dyes)[_clothes_pattern(settings.clothes, settings.clothes_pattern)])


COLOUR, SECOND, BUTTONS, INSIDE, LAPEL, BARE = range(6)
"""Dye numbers of texels of clothes."""


@lru_cache(maxsize=32)
def _clothes_pattern(clothes: str, pattern: str) -> NDArray[np.uint8]:
    """Return the dye number of each texel [56, 97]."""
    t, phi = turn(56, 97, -np.pi, np.pi)
    shown = np.full(t.shape, COLOUR, np.uint8)
    if pattern == "striped":
        shown[np.sin(t * 62) > 0.15] = SECOND
    elif pattern == "checked":
        shown[(np.sin(t * 50) > 0) ^ (np.sin(phi * 11) > 0)] = SECOND
    elif pattern == "dotted":
        shown[(np.cos(t * 60) + np.cos(phi * 15)) > 1.05] = SECOND
    front = np.cos(phi) > 0
    if clothes == "t-shirt":
        bare = t < 0.045
    elif clothes == "shirt":
        bare = front & (np.abs(phi) < 0.50 - 3.2 * t)
        shown[front & ~bare & (np.abs(phi) < 0.85 - 3.2 * t)] = SECOND
        shown[front & (np.abs(phi) < 0.025)] = BUTTONS
    elif clothes == "jacket":
        bare = front & (np.abs(phi) < 0.40 - 3.4 * t)
        inside = front & ~bare & (np.abs(phi) < 0.62 - 0.75 * t)
        shown[inside] = INSIDE
        shown[front & ~bare & ~inside & (np.abs(phi) < 0.80 - 0.75 * t)] = LAPEL
    else:
        bare = t < 0.085 + 0.045 * np.cos(phi)
    shown[bare] = BARE
    return shown
