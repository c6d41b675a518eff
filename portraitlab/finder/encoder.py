"""The encoder's own detector as E_det of the identity loss (HiFi-Portrait, eq. 7)."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.encoder.face_encoder import FaceEncoder
from portraitlab.types import FaceGeometry


class EncoderFinder(nn.Module):
    """Finds faces in generated pictures as `encoder` finds them in photos, without a gradient."""

    def __init__(self, encoder: FaceEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> FaceGeometry:
        """The best face of each image [B, 3, H, W] in [-1, 1]; score 0 where there is none."""
        return self.encoder.locate(images.detach())
