"""Protocols of detectors of several faces."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.types import FaceGeometry


class FaceDetector(Protocol):
    """A detector of all faces of a photo."""

    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """Find all faces of a photo uint8 [H, W, 3] RGB, best first: [K] on the CPU."""
        ...


def find_faces(detector: FaceDetector, image: Tensor) -> FaceGeometry:
    """Find all faces of an image [3, H, W] in [-1, 1], best first: [K] on the CPU."""
    pixels = (image.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return detector.find(pixels.permute(1, 2, 0).cpu().numpy())


class Faces(Protocol):
    """Faces of one picture, as a network finds them."""

    @property
    def scores(self) -> Tensor:
        """Scores [K], falling."""
        ...

    @property
    def keypoints(self) -> Tensor:
        """Keypoints [K, 5, 2], fractions of the picture."""
        ...


class DetectorNet(Protocol):
    """A network that finds faces in pictures [B, 3, H, W] in [-1, 1]."""

    def find(self, images: Tensor, threshold: float) -> list[Faces]:
        """Find the faces of each picture that score `threshold` or more, by falling score."""
        ...
