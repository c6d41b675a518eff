"""Renderer of portraits, and of scenes of people with given settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from portraitlab.world.background import apply_style, draw_background
from portraitlab.world.body import person_parts
from portraitlab.world.camera import rotation
from portraitlab.world.caption import caption, description, group_caption
from portraitlab.world.identity import Identity, make_identity
from portraitlab.world.mesh import Array
from portraitlab.world.parts import PARTS
from portraitlab.world.people import BEHIND, person, regions
from portraitlab.world.photo import FAR, Light, Photo
from portraitlab.world.pixels import block_means, covered, placed
from portraitlab.world.raster import draw_triangles, grid_normals, grid_triangles
from portraitlab.world.settings import PhotoSettings, make_settings

SUPERSAMPLING = 2
LIGHTS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "soft": ((0.40, 0.40, 0.40), (0.68, 0.68, 0.68)),
    "warm": ((0.56, 0.46, 0.32), (0.60, 0.54, 0.46)),
    "cold": ((0.34, 0.42, 0.54), (0.52, 0.58, 0.66)),
    "hard": ((0.86, 0.85, 0.82), (0.30, 0.30, 0.33)),
    "harsh": ((1.45, 1.40, 1.30), (0.10, 0.10, 0.13)),
    "dim": ((0.17, 0.18, 0.22), (0.22, 0.23, 0.27)),
}
"""RGB of the directional and of the ambient light of each kind."""


def render_scene(people: Sequence[tuple[Identity, PhotoSettings]], size: int = 64) -> Photo:
    """Draw people, the first behind the last, in the first one's light, background and style.

    Args:
        people: identity and settings of each; their `scale`, `x`, `y` place them in the frame.
        size: pixels a side, 64 to 256.

    Raises:
        ValueError: no people, or a size outside 32 to 1024.
    """
    if not people:
        raise ValueError("a scene needs at least one person; got none")
    if not 32 <= size <= 1024:
        raise ValueError(
            f"size={size} is outside 32 to 1024 pixels; the world is made for 64 to 256"
        )
    # Draw the background, then the people into one depth buffer.
    fine = size * SUPERSAMPLING
    first_identity, scene = people[0]
    colours = np.ascontiguousarray(draw_background(scene, first_identity.seed, fine), np.float32)
    depth = np.full((fine, fine), FAR, np.float32)
    labels = np.zeros((fine, fine), np.int32)
    light = _light(scene)
    for order, (identity, settings) in enumerate(people):
        _draw_person(identity, settings, order, light, colours, depth, labels)
    # Average the samples, then apply exposure, style and blur.
    image = block_means(colours, SUPERSAMPLING)
    image = apply_style(np.clip(image * scene.exposure, 0, 1), scene.style)
    if scene.blur:
        image = _blurred(image, scene.blur)
    # Measure the people, and describe the photo.
    person_mask = covered(labels, SUPERSAMPLING)
    dressed = [settings for _, settings in people]
    return Photo(
        image=np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8),
        person_mask=person_mask,
        people=tuple(
            person(*people[order], order, labels, depth, region)
            for order, region in enumerate(regions(labels, person_mask, len(people)))
        ),
        caption=group_caption(dressed) if len(people) > 1 else caption(scene),
        description=group_caption(dressed) if len(people) > 1 else description(*people[0]),
        flaws=tuple(dict.fromkeys(flaw for each in dressed for flaw in each.flaws)),
        depth=depth,
        light=replace(
            light,
            directional=light.directional * scene.exposure,
            ambient=light.ambient * scene.exposure,
        ),
        camera_yaw=scene.camera_yaw,
    )


@lru_cache(maxsize=64)
def _gaussian(size: int, deviation: float) -> Array:
    """Return weights [size, size] of a Gaussian blur along `size` pixels.

    Weights of each pixel are normalised within the image.
    """
    place = np.arange(size, dtype=np.float32)
    weights = np.exp(-0.5 * ((place[:, None] - place) / (deviation * size)) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _blurred(image: Array, deviation: float) -> Array:
    """Blur an image [S, S, 3]; deviation in image fractions."""
    weights = _gaussian(len(image), deviation)
    return np.einsum("ij,jkc,lk->ilc", weights, image, weights, optimize=True).astype(np.float32)


def _light(scene: PhotoSettings) -> Light:
    azimuth, elevation, around = scene.light_azimuth, scene.light_elevation, scene.camera_yaw
    direction = (
        np.sin(azimuth) * np.cos(elevation),
        np.sin(elevation),
        np.cos(azimuth) * np.cos(elevation),
    )
    directional, ambient = LIGHTS[scene.light]
    return Light(
        direction=np.array(direction, np.float32),
        directional=np.array(directional, np.float32),
        ambient=np.array(ambient, np.float32),
        brightest=np.array([np.sin(around), 0.0, np.cos(around)], np.float32),
    )


_TRIANGLES: dict[tuple[int, int], NDArray[np.int32]] = {}
_UV: dict[tuple[int, int, int, int], Array] = {}


def _topology(rows: int, columns: int, height: int, width: int) -> tuple[NDArray[np.int32], Array]:
    """Return triangles and texel coordinates of a grid; photos share a few grids."""
    if (rows, columns) not in _TRIANGLES:
        _TRIANGLES[rows, columns] = grid_triangles(rows, columns)
    key = (rows, columns, height, width)
    if key not in _UV:
        r, c = np.meshgrid(
            np.linspace(0, height - 1, rows), np.linspace(0, width - 1, columns), indexing="ij"
        )
        _UV[key] = np.stack([r.ravel(), c.ravel()], -1).astype(np.float32)
    return _TRIANGLES[rows, columns], _UV[key]


def _draw_person(
    identity: Identity,
    settings: PhotoSettings,
    order: int,
    light: Light,
    colours: Array,
    depth: Array,
    labels: NDArray[np.int32],
) -> None:
    fine = depth.shape[0]
    where = np.array([settings.x, settings.y, settings.scale, fine, BEHIND * order], np.float32)
    head_turn = rotation(settings.yaw, settings.pitch, settings.roll)
    body_turn = rotation(settings.body_yaw, 0.0, 0.0)
    lit = np.concatenate([light.direction, light.directional, light.ambient, [0], light.brightest])
    lit = lit.astype(np.float32)
    for part in person_parts(identity, settings):
        turned = part.vertices @ (head_turn if part.turns_with_head else body_turn).T
        normals = grid_normals(turned, part.rows, part.columns)
        points = placed(turned, *where)
        triangles, uv = _topology(part.rows, part.columns, *part.texture.shape[:2])
        lit[9] = part.gloss
        label = PARTS * order + part.label
        surface = (points, normals, uv, triangles, part.texture)
        draw_triangles(*surface, lit, label, part.two_sided, colours, depth, labels)


def render_photo(
    identity_seed: int, photo_seed: int, size: int = 64, framing: str = "portrait"
) -> Photo:
    """Render the portrait of a pair of seeds; the same pair gives the same pixels everywhere.

    framing: see make_settings.
    """
    settings = make_settings(identity_seed, photo_seed, framing)
    return render_scene([(make_identity(identity_seed), settings)], size)
