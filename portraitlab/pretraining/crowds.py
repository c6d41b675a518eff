"""Training pictures of the detector: several faces and their places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.pretraining.photos import TrainingPhotos
from portraitlab.pretraining.regressor import faceless
from portraitlab.types import TensorRecord
from portraitlab.world.pretrained import load_face_model

MOST_FACES = 16
LEAST_FACE = 11.0
"""Longer side, in pixels, of the smallest face to train on; smaller faces are ignored."""
LEAST_SHOWN = 0.4
"""Smallest visible share of a face to train on."""
MIRRORED = [1, 0, 2, 4, 3]
"""Order of the five keypoints in a mirrored face."""


@dataclass(frozen=True)
class Crowd(TensorRecord):
    """Pictures and their faces, in image fractions.

    images [B, 3, S, S] in [-1, 1]. boxes [B, K, 4]: left, top, right and bottom of the landmarks.
    keypoints [B, K, 5, 2]. shown [B, K]: visible share of the face, 0 where a picture has fewer
    than K faces.
    """

    images: Tensor
    boxes: Tensor
    keypoints: Tensor
    shown: Tensor

    @property
    def sizes(self) -> Tensor:
        """Return the longer side of each box in pixels [B, K]."""
        return (self.boxes[..., 2:] - self.boxes[..., :2]).amax(-1) * self.images.shape[-1]

    def padded_to(self, most: int) -> Crowd:
        """Pad the columns of faces to K = `most`, which is at least the current K."""
        spare = most - self.shown.shape[1]
        return Crowd(
            self.images,
            functional.pad(self.boxes, (0, 0, 0, spare)),
            functional.pad(self.keypoints, (0, 0, 0, 0, 0, spare)),
            functional.pad(self.shown, (0, spare)),
        )

    def mirrored(self) -> Crowd:
        """Return the pictures with left and right exchanged."""
        left, top, right, bottom = self.boxes.unbind(-1)
        keypoints = self.keypoints[..., MIRRORED, :]
        return Crowd(
            self.images.flip(-1),
            torch.stack([1 - right, top, 1 - left, bottom], -1),
            torch.stack([1 - keypoints[..., 0], keypoints[..., 1]], -1),
            self.shown,
        )


def portraits(photos: TrainingPhotos, index: Tensor) -> Crowd:
    """Return portraits `index` [B] as crowds of one face."""
    points = load_face_model().points(photos.coefficients(index))[..., :2]
    boxes = torch.cat([points.amin(1), points.amax(1)], -1)
    keypoints = torch.from_numpy(photos.keypoints[index.numpy()])
    return Crowd(
        photos.pixels(index), boxes[:, None], keypoints[:, None], torch.ones(len(index), 1)
    )


def without_faces(photos: TrainingPhotos, index: Tensor, generator: torch.Generator) -> Crowd:
    """Return portraits `index` [B] whose faces are blurred away, shuffled or removed."""
    shown = portraits(photos, index)
    images = faceless(shown.images, photos.masks(index), generator, tile=8)
    return Crowd(images, shown.boxes, shown.keypoints, torch.zeros_like(shown.shown))


def tiled(crowd: Crowd, edge: int, size: int) -> Crowd:
    """Tile pictures in squares of `edge` by `edge`, and resize each square to `size` pixels.

    crowd: B edge² pictures of up to K faces. Returns B pictures of up to K edge² faces.
    """
    count = len(crowd) // edge**2
    images = functional.interpolate(
        crowd.images, size=size // edge, mode="bilinear", antialias=True
    )
    rows = images.unflatten(0, (count, edge, edge)).permute(0, 3, 1, 4, 2, 5)
    # Tile number t is in row t // edge and column t % edge.
    tile = torch.arange(edge**2).repeat(count)
    corner = torch.stack([tile % edge, tile // edge], -1)[:, None]
    boxes = (crowd.boxes + corner.repeat(1, 1, 2)) / edge
    keypoints = (crowd.keypoints + corner[:, :, None]) / edge
    return Crowd(
        rows.reshape(count, images.shape[1], size, size),
        boxes.unflatten(0, (count, edge**2)).flatten(1, 2),
        keypoints.unflatten(0, (count, edge**2)).flatten(1, 2),
        crowd.shown.unflatten(0, (count, edge**2)).flatten(1, 2),
    )
