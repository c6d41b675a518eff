"""Cut a portrait out of a photo, framed as the miniature world frames its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portraitlab.data.photo import DecodedPhoto, UnusablePhoto
from portraitlab.faces.framing import FRAME_CENTRE, FRAME_SPREAD


@dataclass(frozen=True)
class Portrait:
    """A square crop of a photo.

    pixels: uint8 [K, K, 3]. person_mask: bool [K, K]. keypoints [5, 2]: those of the face, in
    pixels of the crop.
    """

    pixels: NDArray[np.uint8]
    person_mask: NDArray[np.bool_]
    keypoints: NDArray[np.float32]

    def resized(self, size: int) -> NDArray[np.uint8]:
        """Return the pixels resized to [size, size, 3]."""
        return np.asarray(
            Image.fromarray(self.pixels).resize((size, size), Image.Resampling.LANCZOS)
        )

    def resized_mask(self, size: int) -> NDArray[np.bool_]:
        """Return the mask resized to [size, size]."""
        mask = Image.fromarray(self.person_mask.astype(np.uint8) * 255)
        return np.asarray(mask.resize((size, size), Image.Resampling.BOX)) >= 128


def cut_portrait(photo: DecodedPhoto, keypoints: NDArray[np.float32], minimum: int) -> Portrait:
    """Cut the square around a face with keypoints [5, 2] (fractions of the photo).

    Beyond the photo's edge its border is repeated and the mask is False. Raises UnusablePhoto if
    the square has fewer than `minimum` pixels a side.
    """
    # Derive the square from the keypoints' centroid and spread.
    height, width = photo.image.shape[:2]
    points = keypoints * np.array([width, height])
    centre = points.mean(axis=0)
    spread = float(np.sqrt(np.square(points - centre).sum(axis=1).mean()))
    side = round(spread / FRAME_SPREAD)
    if side < minimum:
        raise UnusablePhoto(
            f"its face is too small: a portrait of {side} pixels a side, and {minimum} are needed"
        )
    left, top = (round(float(c - f * side)) for c, f in zip(centre, FRAME_CENTRE, strict=True))
    # Crop it, repeating the photo's border.
    columns = np.arange(left, left + side)
    rows = np.arange(top, top + side)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    place = np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))
    moved = (points - [left, top]).astype(np.float32)
    return Portrait(photo.image[place], photo.person_mask[place] & inside, moved)
