"""The encoder's own detector as E_det of the identity loss (HiFi-Portrait, eq. 7)."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.types import FaceGeometry


class EncoderFinder(nn.Module):
    """A finder of faces in generated images by the detector of `encoder`, without a gradient.

    det_size: edge in pixels of the only detection pass. A portrait's face is large, and an estimate
    at high noise shows none: further passes, as over photos, would mostly search images without a
    face.
    """

    def __init__(self, encoder: FaceEncoder, det_size: int = 320) -> None:
        super().__init__()
        self.encoder = encoder
        self.det_size = det_size

    def forward(self, images: Tensor) -> FaceGeometry:
        """Find the best face of each image [B, 3, H, W] in [-1, 1]; score 0 without one."""
        return self.encoder.locate(images.detach(), self.det_size)
