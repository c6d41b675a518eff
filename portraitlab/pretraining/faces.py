"""Face embeddings of images."""

from __future__ import annotations

from torch import Tensor

from portraitlab.faces.alignment import align
from portraitlab.world.models.recognisers import WorldRecogniser
from portraitlab.world.models.regressor import FaceRegressor


def embed_faces(images: Tensor, regressor: FaceRegressor, recogniser: WorldRecogniser) -> Tensor:
    """Find, align and embed the faces of images [B, 3, H, W] in [-1, 1]: unit length [B, d]."""
    return recogniser(align(images, regressor(images).keypoints, recogniser.crop_size))
