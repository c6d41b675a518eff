"""A regressor for the judge and the losses, by an encoder that finds faces in real photos."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.types import FaceGeometry


class PhotoRegressor(nn.Module):
    """A model from images [B, 3, K, K] in [-1, 1] to FaceGeometry with coefficients.

    Exp and Pose are measured on its coefficients. encoder: finds the faces and fits its 3DMM.
    """

    def __init__(self, encoder: FaceEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.title = getattr(encoder.face3d, "title", "no 3DMM")

    def forward(self, images: Tensor) -> FaceGeometry:
        """Find the face of each image. Raises ValueError where the encoder fits no 3DMM."""
        geometry = self.encoder.analyse(images)
        if geometry.coefficients is None:
            raise ValueError(
                "The judge needs a 3DMM's expression and pose, and this encoder fits none; choose "
                "face3d=bfm or face3d=flame with encoder=insightface or sface."
            )
        return geometry
