"""Turn a photo into a portrait, or give the reason why it cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portraitlab.data.photo import DecodedPhoto, UnusablePhoto
from portraitlab.data.portrait import Portrait, cut_portrait
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.faces.matting.base import Matting
from portraitlab.types import FaceGeometry


@dataclass(frozen=True)
class UsablePortrait(Portrait):
    """A portrait together with its view at the encoder's size.

    view: uint8 [V, V, 3]. face [1]: the face that the encoder finds in the view, on the CPU, so
    that later steps need not detect it again.
    """

    view: NDArray[np.uint8]
    face: FaceGeometry

    def columns(self, size: int) -> dict[str, NDArray[Any]]:
        """Return the columns of its pixels, at the backbone's size and at the encoder's."""
        columns = {"image": self.view, "person_mask": self.resized_mask(size)}
        if len(self.view) != size:
            columns |= {"image": self.resized(size), "view": self.view}
        return columns


def usable_portrait(
    photo: DecodedPhoto, encoder: FaceEncoder, matting: Matting, minimum_side: int
) -> UsablePortrait:
    """Cut the portrait of the only face in a photo and mask the person in it.

    The face is detected twice: in the photo, to cut the portrait, and in the portrait at the
    encoder's size, whose keypoints features are computed with.

    minimum_side: least edge of a portrait in pixels. Raises UnusablePhoto with the reason if the
    photo cannot be used.
    """
    portrait = cut_portrait(photo, only_face(photo, encoder), minimum_side)
    person = portrait.person_mask & matting.person(portrait.pixels)
    if not _shows(person, portrait.keypoints):
        raise UnusablePhoto("its person mask excludes the face")
    view = portrait.resized(encoder.image_size)
    found = encoder.find(view)
    if not len(found):
        raise UnusablePhoto("its face is not detected in the cropped portrait")
    return UsablePortrait(portrait.pixels, person, portrait.keypoints, view, found[:1])


def only_face(photo: DecodedPhoto, encoder: FaceEncoder) -> NDArray[np.float32]:
    """Return the keypoints [5, 2] (fractions of the photo) of the only face in it.

    Raises UnusablePhoto if the encoder finds none or several.
    """
    faces = encoder.find(photo.image)
    if not len(faces):
        raise UnusablePhoto("shows no face")
    if len(faces) > 1:
        raise UnusablePhoto(f"shows {len(faces)} faces, not one")
    keypoints: NDArray[np.float32] = faces.keypoints[0].numpy()
    return keypoints


def _shows(person: NDArray[np.bool_], keypoints: NDArray[np.float32]) -> bool:
    """Return True if most of the keypoints [5, 2] (pixels) are inside a mask [K, K].

    Keypoints beyond the edge are clipped to it. Without this check a matte that misses the face
    would give a grey reference unnoticed.
    """
    places = np.round(keypoints - 0.5).astype(int).clip(0, len(person) - 1)
    return int(person[places[:, 1], places[:, 0]].sum()) >= 3
