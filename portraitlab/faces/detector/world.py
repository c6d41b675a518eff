"""A detector in torch, such as the miniature world's."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from portraitlab.faces.detector.base import DetectorNet
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.types import FaceGeometry


class WorldFaces:
    """A detector of all faces by a network on the CPU.

    threshold: least score of a face. largest: longer edge in pixels of the network's training;
    larger photos are scaled down to it.
    """

    def __init__(self, net: DetectorNet, threshold: float = 0.5, largest: int = 256) -> None:
        self.net = net
        self.threshold = threshold
        self.largest = largest

    @torch.no_grad()
    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """Find all faces of a photo uint8 [H, W, 3] RGB, best first."""
        image = photo_tensor(photo)
        scale = self.largest / max(image.shape[-2:])
        if scale < 1:
            size = [max(round(edge * scale), 1) for edge in image.shape[-2:]]
            image = functional.interpolate(image, size, mode="bilinear", antialias=True)
        (found,) = self.net.find(image, self.threshold)
        return FaceGeometry(found.keypoints, found.scores)
