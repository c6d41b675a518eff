"""Several views of one moment, and the correspondence between two of them (IC-Portrait)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from portraitlab.world.background import FIELD_OF_VIEW
from portraitlab.world.camera import rotation, turned_pose
from portraitlab.world.identity import make_identity
from portraitlab.world.mesh import Array
from portraitlab.world.photo import FAR, Photo
from portraitlab.world.render import render_scene
from portraitlab.world.settings import PhotoSettings, make_settings

SAME_SURFACE = 0.08
"""Difference of depth in head units up to which two points count as one surface."""


def seen_from(settings: PhotoSettings, camera_yaw: float) -> PhotoSettings:
    """Return settings of the same moment for a camera moved around the person, in radians.

    People and lights are fixed in the world, so they turn in the camera's frame, and the background
    passes behind them. A positive yaw turns people to the image's right.
    """
    yaw, pitch, roll = turned_pose(settings.yaw, settings.pitch, settings.roll, camera_yaw)
    return replace(
        settings,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        body_turn=settings.body_yaw + camera_yaw - yaw / 3,
        light_azimuth=settings.light_azimuth + camera_yaw,
        camera_yaw=settings.camera_yaw + camera_yaw,
    )


def render_views(
    identity_seed: int,
    photo_seed: int,
    yaws: Sequence[float],
    size: int = 64,
    framing: str = "portrait",
) -> list[Photo]:
    """Render one moment from cameras at the given yaws (radians) around the person.

    framing: see make_settings.
    """
    identity, settings = (
        make_identity(identity_seed),
        make_settings(identity_seed, photo_seed, framing),
    )
    return [render_scene([(identity, seen_from(settings, yaw))], size) for yaw in yaws]


@dataclass(frozen=True)
class Correspondence:
    """Places of a view's pixels in another view.

    places [H, W, 2]: x and y in the other view, in image fractions, of the surface at each pixel's
    centre; outside [0, 1] where it has left the frame. visible [H, W]: True where the other view
    shows it, neither out of frame nor hidden.
    """

    places: Array
    visible: NDArray[np.bool_]


def correspondence(view: Photo, other: Photo) -> Correspondence:
    """Find the places of a view's pixels in another view of the same moment.

    Both are rendered by `render_views` with the same seeds, framing and size. The person is rigid
    between the views, so a pixel's depth determines its place in the other view; comparing its
    depth there with the drawn depth shows if it is hidden. The background is infinitely far away.

    Raises:
        ValueError: a photo of several people, for which there are no other views.
    """
    if len(view.people) > 1 or len(other.people) > 1:
        raise ValueError("a correspondence is between two photos of one person; got a group")
    scale, x, y = (float(value) for value in view.pose[3:])
    size = len(view.image)
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    across, down = np.meshgrid(centres, centres)
    depth, far = _surface_depth(view, scale), ~view.person_mask

    # Person: from pixel and depth to head units, rotate around the head's axis, project.
    around = other.camera_yaw - view.camera_yaw
    points = np.stack([(across - x) / scale, (y - down) / scale, depth / scale], -1)
    turned = points @ rotation(around, 0.0, 0.0).T
    places = np.stack([x + scale * turned[..., 0], y - scale * turned[..., 1]], -1)

    # Background: shift by the camera's turn.
    places[far] = np.stack([across - around / FIELD_OF_VIEW, down], -1)[far]
    nearness = np.where(far, FAR, scale * turned[..., 2])
    return Correspondence(places.astype(np.float32), _shown(places, nearness, other, scale))


def _surface_depth(view: Photo, scale: float) -> Array:
    """Compute the depth [H, W] of the nearest surface at each pixel's centre.

    It is the mean over those samples of the pixel that are on the nearest surface.
    """
    size = len(view.image)
    step = len(view.depth) // size
    samples = view.depth.reshape(size, step, size, step)
    nearest = samples.max((1, 3), keepdims=True)
    same = samples >= nearest - SAME_SURFACE * scale
    return np.where(same, samples, 0).sum((1, 3)) / same.sum((1, 3))


def _shown(places: Array, nearness: Array, other: Photo, scale: float) -> NDArray[np.bool_]:
    """Return True where a view shows the surface of depth `nearness` [H, W] at places [H, W, 2]."""
    fine = len(other.depth)
    inside = ((places > 0) & (places < 1)).all(-1)
    column, row = np.moveaxis(np.floor(places * fine - 0.5).astype(int), -1, 0)
    apart = [
        np.abs(
            other.depth[np.clip(row + below, 0, fine - 1), np.clip(column + right, 0, fine - 1)]
            - nearness
        )
        for below in (0, 1)
        for right in (0, 1)
    ]
    return inside & (np.min(apart, 0) < SAME_SURFACE * scale)
