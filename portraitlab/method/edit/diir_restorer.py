"""DIIR, and then the blind restoration of its pictures ("DIIR + CodeFormer", FPGA's Table 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.edit.base import Edit, Edited, KnownFaces
from portraitlab.method.edit.diir import DIIR
from portraitlab.method.edit.restorer import Restorer
from portraitlab.method.model import PortraitModel
from portraitlab.types import FaceGeometry


class DIIRThenRestorer(Edit):
    """Edit pictures by DIIR, and the result by the restorer, at the places that DIIR was given."""

    def __init__(self, diir: DIIR, restorer: Restorer) -> None:
        self.diir = diir
        self.restorer = restorer

    def find(self, picture: Tensor) -> FaceGeometry:
        """Find the faces of a picture [3, H, W] in [-1, 1], best first: [K] on the CPU."""
        return self.diir.find(picture)

    def __call__(
        self,
        model: PortraitModel,
        encoder: FaceEncoder,
        pictures: Sequence[Tensor],
        faces: KnownFaces,
    ) -> Edited:
        """Edit the faces of pictures [3, H, W] in [-1, 1]; a face is left that both leave."""
        first = self.diir(model, encoder, pictures, faces)
        second = self.restorer(model, encoder, first.pictures, faces)
        return Edited(
            second.pictures,
            [reason and again for reason, again in zip(first.left, second.left, strict=True)],
            [torch.maximum(*masks) for masks in zip(first.masks, second.masks, strict=True)],
        )
