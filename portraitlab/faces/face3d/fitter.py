"""Fit a 3D morphable model to photos: one interface for all models."""

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
        """Project 68 landmarks [B, 68, 2] in the iBUG order, as fractions of the image."""
        ...

    def landmarks72(self, coefficients: FaceCoefficients) -> Tensor:
        """Project the 68 landmarks, both pupils and both temples [B, 72, 2], likewise."""
        ...

    def keypoints(self, coefficients: FaceCoefficients) -> Tensor:
        """Project the five keypoints [B, 5, 2] of FaceGeometry, as fractions of the image."""
        ...


class FaceFitter(nn.Module, ABC):
    """A 3D morphable model with the frozen network that fits it to photos.

    Attributes: `title` (its name in records), `face_model`, `crop_size` (edge in pixels of the
    network's input), `fingerprint` (hash of the files it was loaded from, part of the key of cached
    features).
    """

    title: str
    face_model: FaceModel
    crop_size: int
    fingerprint: str

    @abstractmethod
    def estimate(self, crops: Tensor) -> FaceCoefficients:
        """Estimate coefficients in crops [B, 3, c, c] in [-1, 1], the pose in crop fractions."""

    @abstractmethod
    def squares(self, landmarks: Tensor) -> Tensor:
        """Compute the square of the image that the network expects from 68 landmarks [B, 68, 2].

        Returns [B, 3]: centre (x, y) and edge, in the unit of the landmarks.
        """

    @torch.no_grad()
    def fit(self, images: Tensor, keypoints: Tensor) -> FaceCoefficients:
        """Fit coefficients [B] to the faces in square images [B, 3, K, K] in [-1, 1].

        keypoints [B, 5, 2]: five points of each face, as fractions. They only place the first
        crop; the network then runs again on the crop around the landmarks that it found, as in its
        training. Raises ValueError where the images are not square.
        """
        height, width = images.shape[-2:]
        if height != width:
            raise ValueError(
                f"A 3DMM is fitted to square images, not to {height} x {width} pixels; crop the "
                "face first (portraitlab/data/portrait.py)."
            )
        first = self._fit_in(images, around(keypoints))
        return self._fit_in(images, self.squares(self.face_model.landmarks(first)))

    def _fit_in(self, images: Tensor, squares: Tensor) -> FaceCoefficients:
        return placed(self.estimate(crop(images, squares, self.crop_size)), squares)


def around(keypoints: Tensor) -> Tensor:
    """Compute squares [B, 3] (centre and edge) around faces from five keypoints [B, 5, 2]."""
    centre = keypoints.mean(dim=1)
    spread = (keypoints - centre[:, None]).square().sum(dim=-1).mean(dim=-1, keepdim=True).sqrt()
    return torch.cat([centre, _EDGE * spread], dim=-1)


def crop(images: Tensor, squares: Tensor, size: int) -> Tensor:
    """Crop squares [B, 3], as fractions of images [B, 3, K, K], to [B, 3, size, size].

    Pixels outside the image are black, as in the training of both published networks.
    """
    # Against aliasing, sample a finer grid and average it. Its factor is that of a crop of the
    # whole photo, so that no crop depends on the others of its batch.
    fine = max(1, round(images.shape[-1] / size))
    count = fine * size
    steps = (torch.arange(count, device=images.device, dtype=images.dtype) + 0.5) / count - 0.5
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    offsets = torch.stack([columns, rows], dim=-1)
    places = squares[:, None, None, :2] + squares[:, None, None, 2:] * offsets
    sampled = functional.grid_sample(images + 1, 2 * places - 1, align_corners=False) - 1
    return functional.avg_pool2d(sampled, fine)


def placed(found: FaceCoefficients, squares: Tensor) -> FaceCoefficients:
    """Convert the pose of coefficients from fractions of crops to fractions of the images."""
    edge = squares[:, 2:]
    corner = squares[:, :2] - edge / 2
    angles, scale, place = found.pose.split([3, 1, 2], dim=1)
    pose = torch.cat([angles, scale * edge, corner + place * edge], dim=1)
    return replace(found, pose=pose)


def bounds(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Compute centre [B, 2] and extent [B, 2] of the upright boxes around points [B, P, 2]."""
    low, high = landmarks.amin(dim=1), landmarks.amax(dim=1)
    return (low + high) / 2, high - low


def with_pupils_and_temples(landmarks: Tensor) -> Tensor:
    """Append the pupils and temples to landmarks [B, 68, 2 or 3] in the iBUG order: [B, 72, ...].

    For models without such points. A pupil is the mean of its eye's landmarks; a temple is the
    jaw's upper end, raised as far as the outer end of the brow is above the outer eye corner.
    """
    pupils = [landmarks[:, 36:42].mean(dim=1), landmarks[:, 42:48].mean(dim=1)]
    temples = landmarks[:, [0, 16]] + landmarks[:, [17, 26]] - landmarks[:, [36, 45]]
    return torch.cat([landmarks, torch.stack(pupils, dim=1), temples], dim=1)


def five_of(landmarks: Tensor) -> Tensor:
    """Compute FaceGeometry's keypoints [B, 5, 2] from landmarks [B, 68, 2] in the iBUG order.

    An eye is the mean of its six landmarks.
    """
    eyes = [landmarks[:, 36:42].mean(dim=1), landmarks[:, 42:48].mean(dim=1)]
    return torch.stack([*eyes, *landmarks[:, [30, 48, 54]].unbind(dim=1)], dim=1)
