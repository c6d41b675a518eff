"""Scale, rotate and pad training photos with all that is known of them (FaceSnap, Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.store import cached_photos
from portraitlab.data.targets import string_seed

Array = NDArray[Any]

SCALES = (0.6, 1.0)
"""Range of the scale; the paper states no range, and pads what a smaller picture leaves free."""
DEGREES = 15.0
"""Largest rotation to either side."""
SHIFT = 0.08
"""Largest shift to any side, as a fraction of the picture."""


@dataclass(frozen=True)
class Placement:
    """A similarity of the picture: scaling and clockwise rotation about its centre, then a shift.

    shift: to the right and down, as fractions of the picture.
    """

    scale: float
    degrees: float
    shift: tuple[float, float]

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Placement:
        """Draw a placement, uniform within the ranges above."""
        degrees, x, y = generator.uniform(-1, 1, 3) * (DEGREES, SHIFT, SHIFT)
        return cls(float(generator.uniform(*SCALES)), float(degrees), (float(x), float(y)))

    def points(self, points: Array) -> Array:
        """Move points [..., 2] in fractions of the picture."""
        angle = np.deg2rad(self.degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = 0.5 + self.scale * (np.asarray(points) - 0.5) @ turn.T + self.shift
        return moved.astype(np.asarray(points).dtype)

    def box(self, box: Array) -> Array:
        """Move a box [4], left, top, right and bottom, to the smallest around its corners."""
        left, top, right, bottom = box
        corners = self.points(
            np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        )
        return np.concatenate([corners.min(0), corners.max(0)]).astype(np.asarray(box).dtype)

    def pose(self, pose: Array) -> Array:
        """Move the pose [6] of FaceCoefficients: its roll, scale and place."""
        moved = np.array(pose)
        moved[2] -= np.deg2rad(self.degrees)  # the roll is counted with y upwards
        moved[3] *= self.scale
        moved[4:] = self.points(moved[4:])
        return moved

    def picture(self, pixels: Array) -> Array:
        """Move a picture uint8 [S, S, 3], padded with the colours of its edges."""
        return self._moved(torch.tensor(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy()

    def mask(self, mask: Array) -> Array:
        """Move a mask bool [S, S], padded as the picture is."""
        return (self._moved(255 * torch.tensor(mask, dtype=torch.uint8)[None])[0] > 127).numpy()

    def _moved(self, image: torch.Tensor) -> torch.Tensor:
        size = image.shape[-1]
        # As much is beyond the edges as the smallest scale, the rotation and the shift can show.
        padded = transforms.pad(image, [size, size], padding_mode="edge")
        moved = transforms.affine_image(
            padded,
            angle=self.degrees,
            translate=[size * shift for shift in self.shift],
            scale=self.scale,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        return transforms.center_crop(moved, [size, size])


_MOVES = {
    "image": Placement.picture,
    "view": Placement.picture,
    "person_mask": Placement.mask,
    "face_mask": Placement.mask,
    "view_mask": Placement.mask,
    "face_box": Placement.box,
    "joints": Placement.points,
    "scene_keypoints": Placement.points,
    "true_pose": Placement.pose,
}
"""By column of a photo; all other columns stay."""


def augmented(photos: Iterable[Mapping[str, Any]], copies: int) -> Iterator[Mapping[str, Any]]:
    """Yield each photo and `copies` of it under placements that depend on its name alone.

    photos: values by the columns of a photo. A copy's name is the photo's with `+` and its number.
    """
    for photo in photos:
        yield photo
        for number in range(1, copies + 1):
            seed = string_seed("augment", photo["identity"], photo["name"], number)
            placement = Placement.draw(np.random.default_rng(seed))
            moved = {
                name: _MOVES[name](placement, value) if name in _MOVES else value
                for name, value in photo.items()
            }
            yield {**moved, "name": f"{photo['name']}+{number}"}


def augmented_photos(
    photos: PhotoSet, copies: int, cache: Path, frozen: Frozen, digest: str | None = None
) -> PhotoSet:
    """Return training photos with `copies` of each beside them, encoded once and cached.

    Faces are found anew in every copy. digest: of the photos, for sources whose store has no key.
    """
    store = photos.store
    rows = np.concatenate(list(photos.rows().values()))
    recipe = {
        "source": "augmented", "of": digest or store.key, "identities": list(photos.identities),
        "copies": copies, "ranges": [*SCALES, DEGREES, SHIFT],
    }  # fmt: skip
    photographs = (_columns(photos, int(row)) for row in track(rows, "Augmenting photos"))
    made = cached_photos(cache, recipe, store.size, store.view_size, augmented(photographs, copies))
    return replace(photos, store=made, features=FeatureStore.cached(cache, made, frozen))


def _columns(photos: PhotoSet, row: int) -> dict[str, Any]:
    """Read the columns of one photo that a copy needs, all but those that models make."""
    store, table = photos.store, photos.store.table
    plain = ("identity", "name", "flawed", "scene")
    columns = {name: table.value(name, row) for name in plain if name in table}
    arrays = table.columns()
    for name in (*_MOVES, "visible", "true_shape", "true_expression"):
        if name in arrays:
            columns[name] = arrays[name][[row]][0].numpy()
    face_mask = photos.features.face_masks[torch.tensor([row])][0].numpy()
    return {**columns, "caption": store.caption[row], "face_mask": face_mask}
