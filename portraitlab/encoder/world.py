"""The miniature world's own encoder: CLIP-like patch tokens, recogniser, 3DMM regressor."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from portraitlab.alignment import face_crops
from portraitlab.encoder.face_encoder import FaceEncoder, matted, photo_tensor
from portraitlab.encoder.models import PatchEncoder, Recogniser, Regressor
from portraitlab.fingerprint import weights_fingerprint
from portraitlab.types import FaceGeometry

_SIZE = 64
"""Edge in pixels of the images that the world's frozen models were trained on."""


class WorldEncoder(FaceEncoder):
    """Face encoder of the miniature world (plays CLIP, ArcFace and DECA with RetinaFace).

    clip, recogniser and regressor: modules as portraitlab.encoder.models describes them.
    minimum_score: from which score of the regressor on `find` speaks of a face.
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
        """At most one face: the regressor knows portraits framed as the world frames them.

        A photo that is not square is seen within its square, with its border repeated.
        """
        height, width = photo.shape[:2]
        edge = max(height, width)
        left, top = (edge - width) // 2, (edge - height) // 2
        spare = ((top, edge - height - top), (left, edge - width - left), (0, 0))
        device = next(self.parameters()).device
        seen = self.analyse(photo_tensor(np.pad(photo, spare, mode="edge")).to(device)).to("cpu")
        offset, extent = torch.tensor([left, top]), torch.tensor([width, height])
        keypoints = (seen.keypoints * edge - offset) / extent
        found = FaceGeometry(keypoints=keypoints, score=seen.score)
        return found[seen.score >= self.minimum_score]

    @torch.no_grad()
    def analyse(self, images: Tensor) -> FaceGeometry:
        """Keypoints, score and 3DMM coefficients by the world's regressor."""
        if images.shape[-1] != _SIZE:
            images = functional.interpolate(
                images, (_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False
            )
        return self.regressor(images)

    def fit(self, images: Tensor, faces: FaceGeometry) -> FaceGeometry:
        """As `analyse`: one small net tells points and coefficients, of a whole batch at once."""
        return self.analyse(images)

    @torch.no_grad()
    def encode(
        self, images: Tensor, person_mask: Tensor, geometry: FaceGeometry
    ) -> tuple[Tensor, Tensor]:
        """Patch tokens and recogniser embedding of the matted, aligned face."""
        person = matted(images, person_mask)
        local = self.clip.patch_tokens(face_crops(person, geometry.keypoints, self.clip))
        return local, self.recogniser(face_crops(person, geometry.keypoints, self.recogniser))
