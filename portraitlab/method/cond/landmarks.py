"""The landmark generator: one face's shape with another's expression (HiFi-Portrait, Sec. 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.faces.face3d.fitter import FaceModel
from portraitlab.method.cond.base import Cond
from portraitlab.method.cond.drawing import draw, polyline
from portraitlab.types import FaceCoefficients, FaceGeometry

WIDTH = 0.02
"""Width of a line as a fraction of the image."""
STROKES = (
    polyline(0, 17, (1.0, 1.0, 1.0), WIDTH),  # jaw
    polyline(17, 22, (1.0, 0.6, 0.0), WIDTH),  # brows
    polyline(22, 27, (1.0, 0.6, 0.0), WIDTH),
    polyline(27, 31, (0.2, 0.5, 1.0), WIDTH),  # bridge of the nose
    polyline(31, 36, (0.6, 0.2, 1.0), WIDTH),  # its base
    polyline(36, 42, (0.0, 1.0, 0.3), WIDTH, closed=True),  # eyes
    polyline(42, 48, (0.0, 1.0, 0.3), WIDTH, closed=True),
    polyline(48, 60, (1.0, 0.0, 0.2), WIDTH, closed=True),  # outer lips
    polyline(60, 68, (1.0, 0.0, 1.0), WIDTH, closed=True),  # inner lips
)
"""The 68 landmarks in the iBUG order as lines, one colour per facial feature."""


class LandmarkCond(Cond):
    """Draw 68 landmarks of the reference's shape with the target's expression and pose."""

    def __init__(self, face_model: FaceModel) -> None:
        super().__init__()
        self.face_model = face_model
        if isinstance(face_model, nn.Module):
            face_model.requires_grad_(False)

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Draw control images [B, 3, size, size] in [-1, 1].

        Raises ValueError where the photos have no 3DMM coefficients, or those of another model.
        """
        mixed = self.mixed(shape_geometry, target_geometry)
        return draw(self.face_model.landmarks(mixed), STROKES, size)

    def mixed(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry
    ) -> FaceCoefficients:
        """Combine one face's shape with another's expression and pose. Raises as `forward`."""
        shape, target = shape_geometry.coefficients, target_geometry.coefficients
        if shape is None or target is None:
            raise ValueError(
                "Drawing landmarks needs 3DMM coefficients, and this encoder gives none; "
                "choose face3d=bfm or face3d=flame with encoder=insightface, or encoder=world, "
                "or else cond=keypoints or cond=landmarks5."
            )
        found = shape.shape.shape[-1], target.expression.shape[-1]
        needed = self.face_model.shape_size, self.face_model.expression_size
        if found != needed:
            raise ValueError(
                f"The encoder gives {found[0]} coefficients of shape and {found[1]} of expression, "
                f"and the 3DMM that draws has {needed[0]} and {needed[1]}: they belong to "
                "different models. Choose face3d=none with encoder=world, and another face3d with "
                "encoder=insightface."
            )
        return FaceCoefficients(shape.shape, target.expression, target.pose)
