"""The interface of face encoders (HiFi-Portrait, Sec. 3.2, pre-processing and face encoder)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.types import FaceGeometry


class FaceEncoder(nn.Module, ABC):
    """A frozen model that finds faces and encodes them as local and global features.

    Attributes: `local_dim` d1 and `local_length` L of the local features, `global_dim` d2,
    `image_size` (edge in pixels of the images it expects), `fingerprint` (hash of weights and
    settings, the key of cached features), `concurrent` (True where several threads may call it at
    once).
    """

    local_dim: int
    local_length: int
    global_dim: int
    image_size: int
    fingerprint: str
    concurrent: bool = False

    @abstractmethod
    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """Find all faces of one photo uint8 [H, W, 3] RGB of any size, best first.

        The returned record has one row per face; it is empty where there is no face.
        """

    @abstractmethod
    def analyse(self, images: Tensor) -> FaceGeometry:
        """Find the one face of each image [B, 3, H, W] in [-1, 1]; score 0 where there is none."""

    def locate(self, images: Tensor, det_size: int | None = None) -> FaceGeometry:
        """Find faces as `analyse` does; coefficients may be left out where they cost extra.

        det_size: makes one pass at this size, in an encoder that makes several.
        """
        return self.analyse(images)

    @abstractmethod
    def fit(self, images: Tensor, faces: FaceGeometry) -> FaceGeometry:
        """Complete the faces [B] that `find` found in images [B, 3, V, V] to `analyse`'s result.

        faces: the best of each image, on any device. The faces are not detected a second time.
        """

    @abstractmethod
    def encode(
        self, images: Tensor, person_mask: Tensor, geometry: FaceGeometry
    ) -> tuple[Tensor, Tensor]:
        """Encode the aligned faces of images [B, 3, V, V], without their background.

        person_mask bool [B, H, W] of any resolution, geometry [B] as `analyse` returns it.
        Returns local features [B, L, d1] and global features [B, d2] of unit length.
        """


def matted(images: Tensor, person_mask: Tensor) -> Tensor:
    """Set the background of images [B, 3, H, W] in [-1, 1] to mid-grey (0).

    person_mask bool [B, H', W'] may have another resolution.
    """
    mask = person_mask[:, None].to(images)
    if mask.shape[-2:] != images.shape[-2:]:
        mask = functional.interpolate(mask, images.shape[-2:], mode="bilinear", antialias=True)
    return images * mask


def photo_tensor(photo: NDArray[np.uint8]) -> Tensor:
    """Convert a photo uint8 [H, W, 3] to an image [1, 3, H, W] in [-1, 1]."""
    return torch.tensor(photo).permute(2, 0, 1)[None].float() / 127.5 - 1
