"""The judge: frozen models that look at finished images and take no part in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from portraitlab.alignment import align, face_crops
from portraitlab.encoder.models import Recogniser
from portraitlab.types import View

if TYPE_CHECKING:
    from portraitlab.world.models.clip import ClipEncoder
    from portraitlab.world.models.regressor import FaceRegressor


class Judge(nn.Module):
    """Sees identity, face, picture, expression and pose (HiFi-Portrait, Sec. 4.1).

    recogniser: another than the one that conditions or trains. clip: the CLIP-like pair.
    regressor: gives keypoints, coefficients and a face score (plays RetinaFace and DECA).
    face_threshold: an image that scores less holds no face.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        clip: ClipEncoder,
        regressor: FaceRegressor,
        face_threshold: float = 0.5,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.recogniser = recogniser
        self.clip = clip
        self.regressor = regressor
        self.face_threshold = face_threshold
        self.batch_size = batch_size

    @torch.inference_mode()
    def view(self, images: Tensor) -> View:
        """Look at images [B, 3, H, W] in [-1, 1]."""
        return View.cat([self._view(part) for part in images.split(self.batch_size)])

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """Unit embeddings [B, e'] of prompts by the CLIP-like."""
        embedding: Tensor = self.clip.text_embedding(list(prompts))
        return embedding

    def _view(self, images: Tensor) -> View:
        images = images.clamp(-1, 1)
        geometry = self.regressor(images)
        return View(
            identity=self.recogniser(face_crops(images, geometry.keypoints, self.recogniser)),
            face=self.clip.image_embedding(align(images, geometry.keypoints, images.shape[-1])),
            picture=self.clip.image_embedding(images),
            expression=geometry.coefficients.expression,
            pose=geometry.coefficients.pose[:, :3],
            has_face=geometry.score >= self.face_threshold,
        )
