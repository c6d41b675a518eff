"""A photo as the frozen models see it: one face, cut to a portrait, at the sizes that they want."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from portraitlab.data.photo import Photo, UnusablePhoto
from portraitlab.data.portrait import cut_portrait
from portraitlab.encoder.face_encoder import FaceEncoder
from portraitlab.matting.base import Matting


@dataclass(frozen=True)
class SeenPortrait:
    """A portrait of one person.

    image uint8 [S, S, 3]: RGB at the backbone's size. view uint8 [V, V, 3]: the same picture at the
    encoder's size. person_mask bool [S, S]: False where it is known not to be the person.
    """

    image: NDArray[np.uint8]
    view: NDArray[np.uint8]
    person_mask: NDArray[np.bool_]


def see_portrait(
    photo: Photo,
    encoder: FaceEncoder,
    matting: Matting,
    size: int,
    view_size: int,
    minimum_side: int,
) -> SeenPortrait:
    """The portrait in a photo of one face.

    minimum_side: edge in pixels below which it is too small. Raises UnusablePhoto with the reason
    where the photo cannot be used.
    """
    faces = encoder.find(photo.image)
    if not len(faces):
        raise UnusablePhoto("shows no face")
    if len(faces) > 1:
        raise UnusablePhoto(f"shows {len(faces)} faces, not one")
    portrait = cut_portrait(photo, faces.keypoints[0].numpy(), minimum_side)
    person = portrait.person_mask & matting.person(portrait.pixels)
    if not _shows(person, portrait.keypoints):
        raise UnusablePhoto("the mask of its person leaves the face out")
    view = portrait.resized(view_size)
    if not len(encoder.find(view)):
        raise UnusablePhoto("its face is not found again in the portrait cut from it")
    masked = replace(portrait, person_mask=person)
    return SeenPortrait(portrait.resized(size), view, masked.resized_mask(size))


def _shows(person: NDArray[np.bool_], keypoints: NDArray[np.float32]) -> bool:
    """Whether most of the keypoints [5, 2] (pixels) lie in a mask [K, K], as far as they are in it.

    A matte without the face would leave a grey reference, and nothing else would tell.
    """
    places = np.round(keypoints - 0.5).astype(int).clip(0, len(person) - 1)
    return int(person[places[:, 1], places[:, 0]].sum()) >= 3
