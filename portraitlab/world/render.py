"""Photos of the world: one face, a group at given places, a small face on a body, several views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from portraitlab.world.background import apply_style, draw_background
from portraitlab.world.body import HEAD, person_parts
from portraitlab.world.caption import caption, description
from portraitlab.world.identity import Identity, make_identity
from portraitlab.world.landmarks import KEYPOINTS_FROM_72, landmark_model
from portraitlab.world.mesh import Array
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


@dataclass(frozen=True)
class Face:
    """One face of a photo; points are image fractions.

    landmarks [68, 2], landmarks72 [72, 2], keypoints [5, 2], shape [18], expression [8], pose [6]
    (the true coefficients), identity: the seed, face_mask [H, W] bool.
    """

    identity: int
    landmarks: Array
    landmarks72: Array
    keypoints: Array
    shape: Array
    expression: Array
    pose: Array
    face_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Photo:
    """image [H, W, 3] uint8 RGB; person_mask [H, W]: everything that is not background.

    flaws: what makes it a poor reference (blurred, dim light, mask …).
    """

    image: NDArray[np.uint8]
    person_mask: NDArray[np.bool_]
    faces: tuple[Face, ...]
    caption: str
    description: str
    flaws: tuple[str, ...]

    @property
    def face(self) -> Face:
        """The first (for portraits the only) face."""
        return self.faces[0]

    @property
    def landmarks(self) -> Array:
        """68 points [68, 2]."""
        return self.face.landmarks

    @property
    def landmarks72(self) -> Array:
        """72 points [72, 2]."""
        return self.face.landmarks72

    @property
    def keypoints(self) -> Array:
        """Eyes, nose tip, mouth corners [5, 2]."""
        return self.face.keypoints

    @property
    def face_mask(self) -> NDArray[np.bool_]:
        """Where the face is [H, W]."""
        return self.face.face_mask

    @property
    def shape(self) -> Array:
        """True shape coefficients [18]."""
        return self.face.shape

    @property
    def expression(self) -> Array:
        """True expression coefficients [8]."""
        return self.face.expression

    @property
    def pose(self) -> Array:
        """True pose [6]."""
        return self.face.pose


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """[3, 3]: roll after pitch after yaw; positive yaw turns to the image's right."""
    cy, cp, cr = np.cos([yaw, pitch, roll])
    sy, sp, sr = np.sin([yaw, pitch, roll])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


def project(points: Array, pose: Array) -> Array:
    """Weak perspective: head units [K, 3] to image fractions [K, 2]."""
    turned = points @ rotation(*pose[:3]).T
    return np.stack(
        [pose[4] + pose[3] * turned[:, 0], pose[5] - pose[3] * turned[:, 1]], -1
    ).astype(np.float32)


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
    fine = size * SUPERSAMPLING
    first_identity, scene = people[0]
    colours = np.ascontiguousarray(draw_background(scene, first_identity.seed, fine), np.float32)
    depth = np.full((fine, fine), -1e9, np.float32)
    labels = np.zeros((fine, fine), np.int32)
    light = _light(scene)
    for order, (identity, settings) in enumerate(people):
        _draw_person(identity, settings, order, light, colours, depth, labels)
    image = _reduced(colours)
    image = apply_style(np.clip(image * scene.exposure, 0, 1), scene.style)
    if scene.blur:
        image = _blurred(image, scene.blur)
    cover = _reduced((labels > 0).astype(np.float32)[..., None])[..., 0]
    heads = labels[::SUPERSAMPLING, ::SUPERSAMPLING]
    return Photo(
        image=np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8),
        person_mask=cover > 0.5,
        faces=tuple(_face(*person, heads, order) for order, person in enumerate(people)),
        caption=caption(scene),
        description=description(first_identity, scene),
        flaws=scene.flaws,
    )  # fmt: skip


def _reduced(fine: Array) -> Array:
    """Mean over blocks of SUPERSAMPLING pixels a side."""
    size, channels = fine.shape[0] // SUPERSAMPLING, fine.shape[2]
    blocks = fine.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, channels)
    return blocks.mean((1, 3), dtype=np.float32)


@lru_cache(maxsize=64)
def _gaussian(size: int, deviation: float) -> Array:
    """Weights [size, size] of a Gaussian blur along an edge of `size` pixels, border repeated."""
    place = np.arange(size, dtype=np.float32)
    weights = np.exp(-0.5 * ((place[:, None] - place) / (deviation * size)) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _blurred(image: Array, deviation: float) -> Array:
    """A blur of an image [S, S, 3]; deviation in image fractions."""
    weights = _gaussian(len(image), deviation)
    return np.einsum("ij,jkc,lk->ilc", weights, image, weights, optimize=True).astype(np.float32)


def _light(scene: PhotoSettings) -> Array:
    azimuth, elevation = scene.light_azimuth, scene.light_elevation
    direction = (
        np.sin(azimuth) * np.cos(elevation),
        np.sin(elevation),
        np.cos(azimuth) * np.cos(elevation),
    )
    directional, ambient = LIGHTS[scene.light]
    return np.array([*direction, *directional, *ambient, 0.0], np.float32)


_TRIANGLES: dict[tuple[int, int], NDArray[np.int32]] = {}
_UV: dict[tuple[int, int, int, int], Array] = {}


def _topology(rows: int, columns: int, height: int, width: int) -> tuple[NDArray[np.int32], Array]:
    """Triangles and texel coordinates of a grid; the same few grids come with every photo."""
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
    light: Array,
    colours: Array,
    depth: Array,
    labels: NDArray[np.int32],
) -> None:
    fine = depth.shape[0]
    head_turn = rotation(settings.yaw, settings.pitch, settings.roll)
    body_turn = rotation(settings.body_yaw, 0.0, 0.0)
    for part in person_parts(identity, settings):
        turned = part.vertices @ (head_turn if part.turns_with_head else body_turn).T
        normals = grid_normals(turned, part.rows, part.columns)
        points = np.empty_like(turned)
        points[:, 0] = (settings.x + settings.scale * turned[:, 0]) * fine
        points[:, 1] = (settings.y - settings.scale * turned[:, 1]) * fine
        points[:, 2] = settings.scale * turned[:, 2] + 100.0 * order
        triangles, uv = _topology(part.rows, part.columns, *part.texture.shape[:2])
        light[9] = part.gloss
        label = 16 * order + part.label
        surface = (points, normals, uv, triangles, part.texture)
        draw_triangles(*surface, light, label, part.two_sided, colours, depth, labels)


def _face(
    identity: Identity, settings: PhotoSettings, labels: NDArray[np.int32], order: int
) -> Face:
    points = project(landmark_model().points(identity.shape, settings.expression), settings.pose)
    size = labels.shape[0]
    outline = np.concatenate([points[:17], points[[71, 70]]]) * size - 0.5
    area = Image.new("1", (size, size))
    ImageDraw.Draw(area).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return Face(
        identity=identity.seed,
        landmarks=points[:68],
        landmarks72=points,
        keypoints=points[list(KEYPOINTS_FROM_72)],
        shape=identity.shape,
        expression=settings.expression,
        pose=settings.pose,
        face_mask=np.asarray(area) & (labels == 16 * order + HEAD),
    )


def render_photo(
    identity_seed: int, photo_seed: int, size: int = 64, framing: str = "portrait"
) -> Photo:
    """Render the portrait of a pair of seeds; the same pair gives the same pixels everywhere.

    framing: see make_settings.
    """
    settings = make_settings(identity_seed, photo_seed, framing)
    return render_scene([(make_identity(identity_seed), settings)], size)


def render_group(
    identity_seeds: Sequence[int],
    photo_seed: int,
    places: Sequence[tuple[float, float, float]],
    size: int = 64,
) -> Photo:
    """Several people in one photo; places: x, y and scale (image fractions) of each head.

    Raises:
        ValueError: when there are not as many places as identities.
    """
    if len(identity_seeds) != len(places):
        raise ValueError(
            f"{len(identity_seeds)} identities but {len(places)} places; give one place a person"
        )
    people = [
        (make_identity(seed), replace(make_settings(seed, photo_seed), x=x, y=y, scale=scale))
        for seed, (x, y, scale) in zip(identity_seeds, places, strict=True)
    ]
    return render_scene(people, size)


def render_body(
    identity_seed: int, photo_seed: int, framing: str = "half", size: int = 128
) -> Photo:
    """A half or full body with a small face (FPGA's tables 1 and 2).

    Raises:
        ValueError: framing is neither "half" nor "full".
    """
    frames = {"half": (0.125, 0.22), "full": (0.072, 0.11)}
    if framing not in frames:
        raise ValueError(f"framing={framing!r} is unknown; choose half or full")
    scale, y = frames[framing]
    settings = make_settings(identity_seed, photo_seed)
    return render_scene(
        [(make_identity(identity_seed), replace(settings, scale=scale, x=0.5, y=y))], size
    )


def render_views(
    identity_seed: int, photo_seed: int, yaws: Sequence[float], size: int = 64
) -> list[Photo]:
    """One moment seen from cameras at the given yaws (radians) around the person (IC-Portrait)."""
    identity, settings = make_identity(identity_seed), make_settings(identity_seed, photo_seed)
    return [
        render_scene(
            [
                (
                    identity,
                    replace(settings, yaw=settings.yaw + yaw, body_turn=settings.body_turn + yaw),
                )
            ],
            size,
        )
        for yaw in yaws
    ]
