"""What the encoders of real faces share: a detector, a recogniser and an image encoder at work."""

from __future__ import annotations

import logging
from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from portraitlab.alignment import TEMPLATE, face_crops
from portraitlab.backbone.precisions import without_autocast
from portraitlab.encoder.face_encoder import FaceEncoder, matted
from portraitlab.encoder.models import PatchEncoder
from portraitlab.encoder.passes import Passes
from portraitlab.face3d.fitter import FaceFitter
from portraitlab.fingerprint import weights_fingerprint
from portraitlab.types import FaceGeometry

_LOG = logging.getLogger(__name__)


class RealFaceEncoder(FaceEncoder):
    """Keypoints and identity embedding by models outside of torch, local features by `clip`.

    made_of: what decides its results beside the other parts, for the fingerprint. face3d: fits a
    3DMM to the faces that `analyse` finds; without one they have no coefficients.
    """

    def __init__(
        self,
        clip: PatchEncoder,
        passes: Passes,
        global_dim: int,
        made_of: tuple[str, ...],
        face3d: FaceFitter | None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.face3d = face3d
        self._passes = passes
        self.local_dim = clip.local_dim
        self.local_length = clip.local_length
        self.global_dim = global_dim
        # Of a portrait, a wide crop shows about the whole: clip sees no enlarged pixels.
        self.image_size = max(256, 2 * clip.crop_size)
        fitted_by = [] if face3d is None else [face3d.fingerprint]
        self.fingerprint = " ".join(
            [*made_of, passes.fingerprint, weights_fingerprint(clip), *fitted_by]
        )
        _LOG.info("faces are looked for %s", passes)
        self.requires_grad_(False)
        self.eval()

    @abstractmethod
    def _detect(
        self, photo: NDArray[np.uint8], det_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes and keypoints: see `portraitlab.encoder.passes.Detect`."""

    @abstractmethod
    def _embed(
        self, photo: NDArray[np.uint8], keypoints: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Embedding [d2] of a photo's [H, W, 3] face with keypoints [5, 2], as of `_detect`."""

    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """All faces, those that fill the frame and small ones alike, highest score first."""
        return self._passes.find(photo, self._detect)

    def analyse(self, images: Tensor) -> FaceGeometry:
        """The best face of each image; where there is none, score 0 and the template's points."""
        return self.fit(images, self.locate(images))

    @torch.no_grad()
    def locate(self, images: Tensor, det_size: int | None = None) -> FaceGeometry:
        """What `analyse` says, without the 3DMM, or by one look at this det_size."""
        looks = self._passes if det_size is None else Passes([{"det_size": det_size}], None, 1.0)
        keypoints = TEMPLATE.repeat(len(images), 1, 1)
        score = torch.zeros(len(images))
        for row, photo in enumerate(_photos(images)):
            found = looks.find(photo, self._detect)
            if len(found):
                keypoints[row], score[row] = found.keypoints[0], found.score[0]
        return FaceGeometry(keypoints.to(images.device), score.to(images.device))

    @torch.no_grad()
    def fit(self, images: Tensor, faces: FaceGeometry) -> FaceGeometry:
        """The same faces with the coefficients of the 3DMM, if there is one."""
        keypoints = faces.keypoints.to(images.device)
        with without_autocast(images.device):  # bfloat16 would move points
            fitted = None if self.face3d is None else self.face3d.fit(images, keypoints)
        return FaceGeometry(keypoints, faces.score.to(images.device), fitted)

    @torch.no_grad()
    def encode(
        self, images: Tensor, person_mask: Tensor, geometry: FaceGeometry
    ) -> tuple[Tensor, Tensor]:
        """Patch tokens by `clip` and the recogniser's embedding of the matted, aligned face."""
        person = matted(images, person_mask)
        local = self.clip.patch_tokens(face_crops(person, geometry.keypoints, self.clip))
        extent = np.array([images.shape[-1], images.shape[-2]], dtype=np.float32)
        embeddings = [
            self._embed(photo, points * extent - 0.5)
            for photo, points in zip(_photos(person), geometry.keypoints.cpu().numpy(), strict=True)
        ]
        global_ = torch.tensor(np.stack(embeddings), dtype=torch.float32, device=images.device)
        return local, functional.normalize(global_, dim=-1)


def _photos(images: Tensor) -> list[NDArray[np.uint8]]:
    """Images [B, 3, H, W] in [-1, 1] as photos uint8 [H, W, 3]."""
    pixels = (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())
