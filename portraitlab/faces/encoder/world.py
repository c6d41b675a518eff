"""The miniature world's encoder: CLIP-like patch tokens, recogniser, 3DMM regressor."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from portraitlab.faces.alignment import face_crops
from portraitlab.faces.encoder.face_encoder import FaceEncoder, matted, photo_tensor
from portraitlab.faces.encoder.models import PatchEncoder, Recogniser, Regressor
from portraitlab.support.hashes import weights_fingerprint
from portraitlab.types import FaceGeometry

_SIZE = 64
"""Edge in pixels of the images that the world's frozen models were trained on."""


class WorldEncoder(FaceEncoder):
    """Face encoder of the miniature world (in place of CLIP, ArcFace and DECA with RetinaFace).

    clip, recogniser and regressor: see the protocols in portraitlab.faces.encoder.models.
    minimum_score: the regressor's score from which `find` reports a face.
    """

    concurrent = True

    def __init__(
        self,
        clip: PatchEncoder,
        recogniser: Recogniser,
        regressor: Regressor,
        minimum_score: float = 0.5,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.recogniser = recogniser
        self.regressor = regressor
        self.minimum_score = minimum_score
        self.local_dim = clip.local_dim
        self.local_length = clip.local_length
        self.global_dim = recogniser.global_dim
        self.image_size = _SIZE
        self.fingerprint = f"world {minimum_score} " + weights_fingerprint(
            clip, recogniser, regressor
        )
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """Find at most one face: the regressor is trained on the world's framing of portraits.

        A photo that is not square is padded to a square by repeating its border.
        """
        height, width = photo.shape[:2]
        edge = max(height, width)
        left, top = (edge - width) // 2, (edge - height) // 2
        padding = ((top, edge - height - top), (left, edge - width - left), (0, 0))
        device = next(self.parameters()).device
        geometry = self.analyse(photo_tensor(np.pad(photo, padding, mode="edge")).to(device)).to(
            "cpu"
        )
        offset, extent = torch.tensor([left, top]), torch.tensor([width, height])
        keypoints = (geometry.keypoints * edge - offset) / extent
        found = FaceGeometry(keypoints=keypoints, score=geometry.score)
        return found[geometry.score >= self.minimum_score]

    @torch.no_grad()
    def analyse(self, images: Tensor) -> FaceGeometry:
        """Predict keypoints, score and 3DMM coefficients by the world's regressor."""
        if images.shape[-1] != _SIZE:
            images = functional.interpolate(
                images, (_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False
            )
        return self.regressor(images)

    def fit(self, images: Tensor, faces: FaceGeometry) -> FaceGeometry:
        """Run `analyse`: one small net predicts keypoints and coefficients of a whole batch."""
        return self.analyse(images)

    @torch.no_grad()
    def encode(
        self, images: Tensor, person_mask: Tensor, geometry: FaceGeometry
    ) -> tuple[Tensor, Tensor]:
        """Encode the matted, aligned face as patch tokens and the recogniser's embedding."""
        person = matted(images, person_mask)
        local = self.clip.patch_tokens(face_crops(person, geometry.keypoints, self.clip))
        return local, self.recogniser(face_crops(person, geometry.keypoints, self.recogniser))
