"""From a photo to the portrait that is taken of it, or the reason why none is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from portraitlab.data.photo import Photo, UnusablePhoto
from portraitlab.data.portrait import Portrait, cut_portrait
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.faces.matting.base import Matting
from portraitlab.types import FaceGeometry


@dataclass(frozen=True)
class UsablePortrait(Portrait):
    """A portrait as its encoder sees it.

    view uint8 [V, V, 3]: the pixels at the encoder's size. face [1]: what it finds in the view, on
    the CPU; whoever goes on with the view need not look for a face in it again.
    """

    view: NDArray[np.uint8]
    face: FaceGeometry


def usable_portrait(
    photo: Photo, encoder: FaceEncoder, matting: Matting, minimum_side: int
) -> UsablePortrait:
    """The portrait of the one face that the encoder finds, with what of it is the person.

    A face is looked for twice: in the photo, to cut the portrait, and in the portrait at the
    encoder's size, another picture, whose keypoints are those that features are made with.

    minimum_side: edge in pixels below which it is too small. Raises UnusablePhoto with the reason
    where the photo cannot be used.
    """
    portrait = cut_portrait(photo, only_face(photo, encoder), minimum_side)
    person = portrait.person_mask & matting.person(portrait.pixels)
    if not _shows(person, portrait.keypoints):
        raise UnusablePhoto("the mask of its person leaves the face out")
    view = portrait.resized(encoder.image_size)
    found = encoder.find(view)
    if not len(found):
        raise UnusablePhoto("its face is not found again in the portrait cut from it")
    return UsablePortrait(portrait.pixels, person, portrait.keypoints, view, found[:1])


def only_face(photo: Photo, encoder: FaceEncoder) -> NDArray[np.float32]:
    """Keypoints [5, 2] (fractions of the photo) of the one face that the encoder finds in it.

    Raises UnusablePhoto where it finds none or several.
    """
    faces = encoder.find(photo.image)
    if not len(faces):
        raise UnusablePhoto("shows no face")
    if len(faces) > 1:
        raise UnusablePhoto(f"shows {len(faces)} faces, not one")
    keypoints: NDArray[np.float32] = faces.keypoints[0].numpy()
    return keypoints


def _shows(person: NDArray[np.bool_], keypoints: NDArray[np.float32]) -> bool:
    """Whether most of the keypoints [5, 2] (pixels) lie in a mask [K, K], as far as they are in it.

    A matte without the face would leave a grey reference, and nothing else would tell.
    """
    places = np.round(keypoints - 0.5).astype(int).clip(0, len(person) - 1)
    return int(person[places[:, 1], places[:, 0]].sum()) >= 3
