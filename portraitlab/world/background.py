"""Backgrounds of photos, and the styles that are applied to whole photos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from portraitlab.world.mesh import Array
from portraitlab.world.settings import COLOURS, PhotoSettings

FIELD_OF_VIEW = 1.0
"""Radians of the far surroundings that a frame shows from side to side."""


def draw_background(settings: PhotoSettings, identity_seed: int, size: int) -> Array:
    """Draw the background [size, size, 3] in [0, 1].

    It is a part of a panorama, whose x counts frames to the right of the first camera's frame: a
    camera that has moved around the person shows another part.
    """
    seeds = [7106, identity_seed, settings.seed]
    rng = np.random.default_rng(seeds)
    place = np.arange(size).astype(np.float32) / size
    y, x = place[:, None], place[None]
    if settings.camera_yaw:
        x = x + settings.camera_yaw / FIELD_OF_VIEW
    colour = np.array(COLOURS[settings.background_colour], np.float32) / 255
    pale = colour * 0.5 + 0.48
    image = np.empty((size, size, 3), np.float32)
    kind = settings.background
    if kind in ("plain", "striped"):
        image[:] = colour * 0.85 + 0.08
    if kind == "gradient":
        image[:] = colour * (1 - y[..., None]) + (colour * 0.35) * y[..., None]
    elif kind == "striped":
        image[:, np.sin((x[0] + rng.uniform(0, 1)) * 38) > 0] = pale
    elif kind == "bokeh":
        image[:] = colour * 0.45
        for radius, across, down in _spots(seeds, x):
            rows = slice(*np.searchsorted(y[:, 0], (down - radius, down + radius + 1 / size)))
            columns = slice(*np.searchsorted(x[0], (across - radius, across + radius + 1 / size)))
            spot = np.hypot(x[:, columns] - across, y[rows] - down) < radius
            around = image[rows, columns]
            around[spot] = around[spot] * 0.45 + pale * 0.55
    elif kind == "sky":
        image[:] = (
            np.array([0.50, 0.70, 0.92]) * (1 - y[..., None])
            + np.array([0.86, 0.92, 0.97]) * y[..., None]
        )
        image[y > 0.66 + 0.05 * np.sin(x * 5 + rng.uniform(0, 6))] = colour * 0.8
    elif kind == "room":
        image[:] = pale
        left = rng.uniform(0.02, 0.6)
        window = (x > left) & (x < left + 0.33) & (y > 0.08) & (y < 0.5)
        image[window] = (0.80, 0.89, 0.96)
        cross = window & ((np.abs(x - left - 0.165) < 0.012) | (np.abs(y - 0.29) < 0.012))
        image[cross] = (0.45, 0.34, 0.27)
        image[y[:, 0] > 0.8] = colour * 0.6
    return image


def _spots(seeds: list[int], x: Array) -> Iterator[tuple[float, float, float]]:
    """Draw radius, x and y of the visible lights; x [1, size]: places in the panorama.

    Only the first camera's own lights reach into its frame.
    """
    for frame in sorted(range(int(x.min()) - 2, int(x.max()) + 2), key=abs):
        rng = np.random.default_rng(seeds + ([7111, frame % 1000] if frame else []))
        margin = 0.13 if frame else 0.0
        for _ in range(9):
            radius = rng.uniform(0.05, 0.13)
            across, down = frame + rng.uniform(margin, 1 - margin), rng.uniform(0, 1)
            if x.min() - radius < across < x.max() + radius:
                yield radius, across, down


def apply_style(image: Array, style: str) -> Array:
    """Apply a style to an image [H, W, 3] in [0, 1]."""
    if style == "black and white photo":
        return np.repeat((image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, -1)
    if style == "vintage photo":
        sepia = np.array([[0.55, 0.40, 0.30], [0.45, 0.45, 0.38], [0.12, 0.16, 0.26]], np.float32)
        return np.clip(image @ sepia * 0.95 + np.array([0.06, 0.03, 0.0], np.float32), 0, 1)
    if style == "painting":
        return np.clip((_bilateral(image) - 0.5) * 1.18 + 0.52, 0, 1)
    return image


def _bilateral(image: Array, radius: int = 2, near: float = 3.0, alike: float = 0.15) -> Array:
    """Smooth an image within areas of similar colour (Tomasi and Manduchi, ICCV 1998)."""
    size = image.shape[0]
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    total, weights = np.zeros_like(image), np.zeros((size, size, 1), np.float32)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dx * dx + dy * dy > radius * radius:
                continue
            other = padded[radius + dy : radius + dy + size, radius + dx : radius + dx + size]
            apart = np.abs(other - image).sum(-1, keepdims=True) / alike
            weight = np.exp(-0.5 * (apart**2 + (dx * dx + dy * dy) / near**2)).astype(np.float32)
            total += weight * other
            weights += weight
    return total / weights
