"""From photos to the coefficients of a 3D morphable model: one interface for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.types import FaceCoefficients

_EDGE = 6.5
"""Edge of the first square around a face, in root mean square distances of its five keypoints.

3DDFA_V2 takes 1.58 times the mean side of a detector's box, and in real photos SCRFD's boxes are
3.5 such distances wide and 4.8 high.
"""


class FaceModel(Protocol):
    """A 3D morphable model that places points in the image."""

    @property
    def shape_size(self) -> int:
        """Number of shape coefficients, S."""
        ...

    @property
    def expression_size(self) -> int:
        """Number of expression coefficients, E."""
        ...

    def landmarks(self, coefficients: FaceCoefficients) -> Tensor:
        """68 landmarks [B, 68, 2] in the iBUG order, as fractions of the image."""
        ...

    def keypoints(self, coefficients: FaceCoefficients) -> Tensor:
        """The five keypoints [B, 5, 2] of FaceGeometry, as fractions of the image."""
        ...


class FaceFitter(nn.Module, ABC):
    """A 3D morphable model with the network that fits it to photos; never trained.

    Attributes: `title` (how records name it), `face_model`, `crop_size` (edge in pixels of what the
    network sees), `fingerprint` (of the files it was read from, under which features are cached).
    """

    title: str
    face_model: FaceModel
    crop_size: int
    fingerprint: str

    @abstractmethod
    def estimate(self, crops: Tensor) -> FaceCoefficients:
        """Coefficients of faces in crops [B, 3, c, c] in [-1, 1], the pose as fractions of it."""

    @abstractmethod
    def squares(self, landmarks: Tensor) -> Tensor:
        """Which part of an image the network wants to see, by 68 landmarks [B, 68, 2].

        Returns [B, 3]: centre (x, y) and edge, in the unit of the landmarks.
        """

    @torch.no_grad()
    def fit(self, images: Tensor, keypoints: Tensor) -> FaceCoefficients:
        """Coefficients [B] of the faces in square images [B, 3, K, K] in [-1, 1].

        keypoints [B, 5, 2]: five points of each face, as fractions. They only say where to look
        first: the network looks a second time, at what it was trained to see around the landmarks
        that it found. Raises ValueError where the images are not square.
        """
        height, width = images.shape[-2:]
        if height != width:
            raise ValueError(
                f"A 3DMM is fitted to square images, not to {height} x {width} pixels; cut the "
                "face out first (portraitlab/data/portrait.py)."
            )
        first = self._look(images, around(keypoints))
        return self._look(images, self.squares(self.face_model.landmarks(first)))

    def _look(self, images: Tensor, squares: Tensor) -> FaceCoefficients:
        return placed(self.estimate(crop(images, squares, self.crop_size)), squares)


def around(keypoints: Tensor) -> Tensor:
    """Squares [B, 3] (centre and edge) around faces by their five keypoints [B, 5, 2]."""
    centre = keypoints.mean(dim=1)
    spread = (keypoints - centre[:, None]).square().sum(dim=-1).mean(dim=-1, keepdim=True).sqrt()
    return torch.cat([centre, _EDGE * spread], dim=-1)


def crop(images: Tensor, squares: Tensor, size: int) -> Tensor:
    """Squares [B, 3], as fractions of square images [B, 3, K, K], as crops [B, 3, size, size].

    What lies outside the image is black, as both published networks know it.
    """
    # Where a crop reduces the photo, it is sampled finely and averaged, against aliasing: as finely
    # as a square of the whole photo needs, so that no crop depends on the others of its batch.
    fine = max(1, round(images.shape[-1] / size))
    count = fine * size
    steps = (torch.arange(count, device=images.device, dtype=images.dtype) + 0.5) / count - 0.5
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    offsets = torch.stack([columns, rows], dim=-1)
    places = squares[:, None, None, :2] + squares[:, None, None, 2:] * offsets
    sampled = functional.grid_sample(images + 1, 2 * places - 1, align_corners=False) - 1
    return functional.avg_pool2d(sampled, fine)


def placed(found: FaceCoefficients, squares: Tensor) -> FaceCoefficients:
    """Coefficients found in crops, with the pose as fractions of the whole images."""
    edge = squares[:, 2:]
    corner = squares[:, :2] - edge / 2
    angles, scale, place = found.pose.split([3, 1, 2], dim=1)
    pose = torch.cat([angles, scale * edge, corner + place * edge], dim=1)
    return replace(found, pose=pose)


def bounds(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Centre [B, 2] and extent [B, 2] of the upright boxes around points [B, P, 2]."""
    low, high = landmarks.amin(dim=1), landmarks.amax(dim=1)
    return (low + high) / 2, high - low


def five_of(landmarks: Tensor) -> Tensor:
    """FaceGeometry's five points [B, 5, 2] by 68 landmarks [B, 68, 2] in the iBUG order.

    An eye is the mean of its six landmarks.
    """
    eyes = [landmarks[:, 36:42].mean(dim=1), landmarks[:, 42:48].mean(dim=1)]
    return torch.stack([*eyes, *landmarks[:, [30, 48, 54]].unbind(dim=1)], dim=1)
