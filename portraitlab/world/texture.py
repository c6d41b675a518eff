"""The skin of a head as an image over the mesh's grid: lips, eyes, brows, beard, marks, scalp.

The texture's rows and columns are the mesh's rows and columns, refined, so that the dense rows
around the mouth and the eyes get dense texels too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from portraitlab.world.appearance import wears_makeup, worn_beard
from portraitlab.world.identity import Identity
from portraitlab.world.landmarks import EYE_HALF_HEIGHT, EYE_HALF_WIDTH, LOWER_LIP, UPPER_LIP
from portraitlab.world.mesh import (
    BROW_Y,
    COLUMNS,
    EYE_X,
    EYE_Y,
    MOUTH_BAND,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    NOSE_BASE_Y,
    ROWS,
    Array,
    Chart,
    bump,
    grid_angles,
    smoothstep,
)
from portraitlab.world.pixels import blend
from portraitlab.world.settings import MAKEUPS, PhotoSettings

HEIGHT, WIDTH = 2 * ROWS, 2 * COLUMNS


@lru_cache(maxsize=1)
def texel_chart() -> Chart:
    """Return chart coordinates [HEIGHT, WIDTH] of the texels' centres."""
    rows, columns = grid_angles()
    theta = np.interp(np.linspace(0, ROWS - 1, HEIGHT), np.arange(ROWS), rows)
    phi = np.interp(np.linspace(0, COLUMNS - 1, WIDTH), np.arange(COLUMNS), columns)
    theta, phi = np.meshgrid(theta, phi, indexing="ij")
    return Chart(phi.astype(np.float32), theta.astype(np.float32))


@lru_cache(maxsize=1)
def _face_window() -> tuple[slice, slice, Array, Array]:
    """Return the part of the texture in which features are painted, and its x0, y0."""
    chart = texel_chart()
    columns = np.flatnonzero(np.abs(chart.phi[0]) < 1.45)
    rows = np.flatnonzero((chart.y0[:, 0] < 0.8) & (chart.y0[:, 0] > -0.995))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return *window, chart.x0[window], chart.y0[window]


def noise(rng: np.random.Generator, rows: int, columns: int, shape: tuple[int, int]) -> Array:
    """Draw smooth noise [shape] of unit variance, interpolated from rows x columns values."""
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    return _between(rows, shape[0]) @ coarse @ _between(columns, shape[1]).T


@lru_cache(maxsize=64)
def _between(few: int, many: int) -> Array:
    """Return weights [many, few] of linear interpolation between centres of `few` equal cells."""
    place = np.clip((np.arange(many) + 0.5) * few / many - 0.5, 0, few - 1)
    return np.clip(1 - np.abs(place[:, None] - np.arange(few)), 0, 1).astype(np.float32)


@lru_cache(maxsize=256)
def _base(identity: Identity, beard: str) -> Array:
    """Paint all but eyes and makeup [HEIGHT, WIDTH, 4]: skin, blush, lips, brows, beard, marks."""
    rng = np.random.default_rng([7103, identity.seed])
    texture = np.ones((HEIGHT, WIDTH, 4), np.float32)
    uneven = 0.012 * noise(rng, 24, 24, (HEIGHT, WIDTH))
    for k in range(3):
        texture[..., k] = identity.skin[k] + uneven
    # Paint skin, blush, shadows, birthmarks, freckles and wrinkles.
    rows, columns, x, y = _face_window()
    face = texture[rows, columns]
    skin, dark = identity.skin, identity.skin * 0.55
    areas = _areas()
    warm = skin * np.array([1.0, 0.72, 0.70], np.float32)
    blend(face, identity.blush * 0.5 * areas["cheeks"], warm)
    blend(face, identity.shadows * 0.8 * areas["shadows"], skin * 0.62)
    for mark_x, mark_y, radius in identity.birthmarks:
        ragged = radius * (1 + 0.25 * noise(rng, 30, 30, x.shape))
        patch = smoothstep(1.6 - 1.1 * np.hypot(x - mark_x, y - mark_y) / ragged)
        blend(face, 0.7 * patch, skin * np.array([0.66, 0.42, 0.42], np.float32))
    grain = noise(rng, 70, 70, x.shape)
    if identity.freckles:
        grain = smoothstep((grain - 0.5) * 2)
        brown = skin * np.array([0.72, 0.5, 0.38], np.float32)
        blend(face, identity.freckles * 0.8 * grain * areas["freckles"], brown)
    blend(face, identity.wrinkles * areas["wrinkles"], dark)
    # Paint beard, mouth, nostrils and brows.
    if beard != "none":
        hairs = 0.85 + 0.2 * noise(rng, 50, 60, x.shape)
        density = np.clip(areas[beard] * identity.beard_density * hairs, 0, 0.95)
        blend(face, density, identity.hair * 0.85)
    blend(face, areas["nostrils"], skin * 0.3)
    blend(face, areas["upper lip"], identity.lips * 0.88)
    blend(face, areas["lower lip"], identity.lips)
    blend(face, areas["mouth"], np.array([0.22, 0.06, 0.07], np.float32))
    blend(face, areas["teeth"], np.array([0.93, 0.92, 0.88], np.float32))
    _paint_brows(face, x, y, identity)
    # Paint moles and scars.
    for mole_x, mole_y, radius in identity.moles:
        blend(face, 0.85 * smoothstep(1.5 - np.hypot(x - mole_x, y - mole_y) / radius), skin * 0.35)
    for scar_x, scar_y, angle, half_length in identity.scars:
        along = (x - scar_x) * np.cos(angle) + (y - scar_y) * np.sin(angle)
        across = (y - scar_y) * np.cos(angle) - (x - scar_x) * np.sin(angle)
        line = smoothstep(1.5 - np.abs(across) / 0.016) * smoothstep(
            (half_length - np.abs(along)) / 0.02
        )
        blend(face, 0.8 * line, skin * 0.5 + np.array([0.42, 0.30, 0.30], np.float32))
    return texture


@lru_cache(maxsize=1)
def _areas() -> dict[str, Array]:
    """Compute each feature's strength on the face's window [H, W], the same for everybody."""
    _, _, x, y = _face_window()
    aside = np.abs(x)
    nostrils = smoothstep(1.6 - np.hypot((aside - 0.055) / 0.028, (y - NOSE_BASE_Y) / 0.018))
    return {
        "cheeks": bump(aside, y, 0.40, -0.15, 0.15, 0.13),
        "shadows": bump(aside, y, EYE_X, 0.0, 0.11, 0.045),
        "freckles": bump(aside, y, 0.25, -0.08, 0.22, 0.13),
        "nostrils": 0.8 * nostrils,
        "wrinkles": _wrinkles(x, y),
        **_beards(x, y),
        **_lips(x, y),
        **_makeup(x, y),
    }


def _wrinkles(x: Array, y: Array) -> Array:
    fold = 0.16 + 0.14 * smoothstep((NOSE_BASE_Y + 0.03 - y) / 0.25)
    folds = bump(np.abs(x) - fold, 0 * y, 0, 0, 0.016, 1) * smoothstep((y + 0.52) / 0.1)
    folds *= smoothstep((NOSE_BASE_Y + 0.05 - y) / 0.08)
    lines = np.cos((y - 0.44) * 75) ** 6 * bump(x, y, 0, 0.46, 0.22, 0.07)
    return np.clip(0.55 * folds + 0.35 * lines, 0, 1)


def _beards(x: Array, y: Array) -> dict[str, Array]:
    chin = smoothstep((-y - 0.56) / 0.08) * smoothstep((0.30 - np.abs(x)) / 0.08)
    lip = bump(np.abs(x), y, 0.10, -0.315, 0.12, 0.04) * 1.4
    jaw = smoothstep((-y - 0.18 - 0.62 * smoothstep((0.52 - np.abs(x)) / 0.3)) / 0.10)
    full = np.maximum(jaw, smoothstep((-y - 0.60) / 0.1))
    beside = smoothstep((np.abs(x) - 0.22) / 0.05) * smoothstep((-y - 0.33) / 0.08)
    return {
        "stubble": np.maximum(full, np.minimum(lip, 1)) * 0.42,
        "moustache": lip,
        "goatee": np.maximum(chin, lip),
        "full beard": np.maximum.reduce([full, np.minimum(lip, 1), beside * 0.9]),
    }


def _lips(x: Array, y: Array) -> dict[str, Array]:
    u = np.clip(np.abs(x) / MOUTH_HALF_WIDTH, 0, 1)
    bow = UPPER_LIP * (1 - u**2.2) * (1 - 0.18 * np.exp(-((u / 0.16) ** 2)))
    upper = smoothstep((MOUTH_Y + bow - y) / 0.018) * (y >= MOUTH_Y)
    lower = smoothstep((y - MOUTH_Y + LOWER_LIP * (1 - u**2.4)) / 0.018) * (y < MOUTH_Y)
    inside = np.abs(x) < MOUTH_HALF_WIDTH
    band = np.abs(y - MOUTH_Y)
    gap = smoothstep((MOUTH_BAND - band) / 0.004) * (np.abs(x) < MOUTH_HALF_WIDTH * 0.97)
    teeth = smoothstep((MOUTH_BAND * 0.95 - (y - MOUTH_Y - MOUTH_BAND * 0.25)) / 0.003)
    teeth = teeth * (y - MOUTH_Y > MOUTH_BAND * 0.15) * (band < MOUTH_BAND * 0.9)
    return {
        "upper lip": upper * inside * 0.95,
        "lower lip": lower * inside * 0.95,
        "mouth": gap,
        "teeth": teeth * (np.abs(x) < MOUTH_HALF_WIDTH * 0.72),
    }


def _paint_brows(face: Array, x: Array, y: Array, identity: Identity) -> None:
    u = (np.abs(x) - 0.28) / 0.18
    centre = BROW_Y + identity.brow_arch * (1 - u**2) - identity.brow_tilt * 0.25 * u
    centre = centre + identity.brow_skew * np.sign(x)
    thickness = identity.brow_thickness * (1 - 0.45 * smoothstep(u))
    alpha = smoothstep((thickness - np.abs(y - centre)) / 0.016 + 0.5) * smoothstep(
        (1.05 - np.abs(u)) / 0.18
    )
    colour = (
        identity.hair * 0.7
        if identity.hair_colour not in ("white", "blonde")
        else identity.hair * 0.62
    )
    blend(face, alpha * identity.brow_darkness, colour)


def _makeup(x: Array, y: Array) -> dict[str, Array]:
    u = np.clip(np.abs(x) / MOUTH_HALF_WIDTH, 0, 1)
    top, bottom = UPPER_LIP * (1 - u**2.2), -LOWER_LIP * (1 - u**2.4)
    above = y - MOUTH_Y
    lips = smoothstep((top - above) / 0.018) * smoothstep((above - bottom) / 0.018)
    lips *= (np.abs(x) < MOUTH_HALF_WIDTH) & (np.abs(above) > MOUTH_BAND)
    lids = bump(np.abs(x), y, EYE_X, EYE_Y + 0.085, 0.12, 0.035)
    return {"painted lips": 0.85 * lips, "painted lids": 0.55 * lids}


@dataclass(frozen=True)
class _Eyes:
    """The texture's window of both eyes and its masks, the same for everybody.

    across and down [h, w]: chart distances to the middle of an eye. white, crease and lash [h, w]:
    strength of each.
    """

    rows: slice
    columns: slice
    across: Array
    down: Array
    white: Array
    crease: Array
    lash: Array


@lru_cache(maxsize=1)
def _eyes() -> _Eyes:
    rows, columns, x, y = _face_window()
    u = (np.abs(x) - EYE_X) / EYE_HALF_WIDTH
    v = (y - EYE_Y) / EYE_HALF_HEIGHT
    lid = np.sqrt(np.clip(1 - u**2, 0, 1))
    above = smoothstep((lid - v) / 0.22)
    below = smoothstep((v + 0.9 * lid) / 0.22)
    white = above * below * (np.abs(u) < 1)
    crease = bump(v - 1.55 * lid - 0.1, 0 * u, 0, 0, 0.16, 1) * (np.abs(u) < 1.05)
    lash = bump(v - lid, 0 * u, 0, 0, 0.17, 1) * (np.abs(u) < 1.08)

    # Outside this window painting the eyes would not change a bit of the skin.
    painted = np.maximum.reduce([white, crease, lash]) > 1e-12
    r, c = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
    window = np.s_[r[0] : r[-1] + 1, c[0] : c[-1] + 1]
    return _Eyes(
        slice(rows.start + r[0], rows.start + r[-1] + 1),
        slice(columns.start + c[0], columns.start + c[-1] + 1),
        (x - np.sign(x) * EYE_X)[window],
        (y - EYE_Y - 0.006)[window],
        *(np.ascontiguousarray(area[window]) for area in (white, crease, lash)),
    )


def head_texture(identity: Identity, settings: PhotoSettings) -> Array:
    """Paint the head's texture [HEIGHT, WIDTH, 4] without holes, with the photo's gaze."""
    texture = _base(identity, worn_beard(identity, settings)).copy()
    if wears_makeup(identity, settings):
        rows, columns, _, _ = _face_window()
        paint = np.array(MAKEUPS[settings.makeup_colour], np.float32) / 255
        blend(texture[rows, columns], _areas()["painted lips"], paint)
        blend(texture[rows, columns], _areas()["painted lids"], paint * 0.7)
    eyes = _eyes()
    face = texture[eyes.rows, eyes.columns]
    gaze_x, gaze_y = settings.gaze
    radius = np.hypot(eyes.across - gaze_x, eyes.down - gaze_y)
    iris, pupil = (
        smoothstep((identity.iris_size - radius) / 0.012),
        smoothstep((0.033 - radius) / 0.010),
    )
    blend(face, 0.5 * identity.eyelid * eyes.crease, identity.skin * 0.55)
    blend(face, eyes.white, np.array([0.95, 0.94, 0.92], np.float32))
    blend(face, eyes.white * iris, identity.iris)
    blend(face, eyes.white * pupil, np.array([0.03, 0.03, 0.04], np.float32))
    blend(face, 0.85 * eyes.lash, np.array([0.10, 0.07, 0.07], np.float32))
    return texture
