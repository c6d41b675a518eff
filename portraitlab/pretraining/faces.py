"""Faces as recognisers take them."""

from __future__ import annotations

from torch import Tensor

from portraitlab.faces.alignment import align
from portraitlab.world.models.recognisers import Recogniser
from portraitlab.world.models.regressor import FaceRegressor


def embed_faces(images: Tensor, regressor: FaceRegressor, recogniser: Recogniser) -> Tensor:
    """Unit embeddings [B, d] of the faces of images [B, 3, H, W] in [-1, 1], found and aligned."""
    return recogniser(align(images, regressor(images).keypoints, recogniser.crop_size))
