"""The encoder's own detector as E_det of the identity loss (HiFi-Portrait, eq. 7)."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.types import FaceGeometry


class EncoderFinder(nn.Module):
    """Finds faces in generated pictures by the detector of `encoder`, without a gradient.

    det_size: of the one look at each, in pixels. A portrait's face is large, and an estimate at
    high noise shows none: looking on, as at photos, would cost most where there is nothing.
    """

    def __init__(self, encoder: FaceEncoder, det_size: int = 320) -> None:
        super().__init__()
        self.encoder = encoder
        self.det_size = det_size

    def forward(self, images: Tensor) -> FaceGeometry:
        """The best face of each image [B, 3, H, W] in [-1, 1]; score 0 where there is none."""
        return self.encoder.locate(images.detach(), self.det_size)
