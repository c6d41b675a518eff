"""The base class of real-face encoders: a detector, a recogniser and an image encoder."""

from __future__ import annotations

import logging
from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from portraitlab.faces.alignment import TEMPLATE, face_crops
from portraitlab.faces.encoder.face_encoder import FaceEncoder, matted
from portraitlab.faces.encoder.models import PatchEncoder
from portraitlab.faces.encoder.passes import Passes
from portraitlab.faces.face3d.fitter import FaceFitter
from portraitlab.support.hashes import weights_fingerprint
from portraitlab.support.precision import without_autocast
from portraitlab.types import FaceGeometry

_LOG = logging.getLogger(__name__)


class RealFaceEncoder(FaceEncoder):
    """A face encoder whose detector and recogniser run outside torch; local features are `clip`'s.

    made_of: further settings and hashes that determine its results, for the fingerprint. face3d:
    fits a 3DMM to the faces that `analyse` finds; with None they have no coefficients.
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
        # A wide crop covers about the whole portrait, so this size avoids upscaling for clip.
        self.image_size = max(256, 2 * clip.crop_size)
        fitted_by = [] if face3d is None else [face3d.fingerprint]
        self.fingerprint = " ".join(
            [*made_of, passes.fingerprint, weights_fingerprint(clip), *fitted_by]
        )
        _LOG.info("detection passes: %s", passes)
        self.requires_grad_(False)
        self.eval()

    @abstractmethod
    def _detect(
        self, photo: NDArray[np.uint8], det_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Detect boxes and keypoints: see `portraitlab.faces.encoder.passes.Detect`."""

    @abstractmethod
    def _embed(
        self, photo: NDArray[np.uint8], keypoints: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Embed [d2] the face of a photo [H, W, 3] with keypoints [5, 2] as `_detect` returns."""

    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """Find all faces, from small ones to those that fill the frame, highest score first."""
        return self._passes.find(photo, self._detect)

    def analyse(self, images: Tensor) -> FaceGeometry:
        """Find the best face of each image; score 0 and the template's keypoints without one."""
        return self.fit(images, self.locate(images))

    @torch.no_grad()
    def locate(self, images: Tensor, det_size: int | None = None) -> FaceGeometry:
        """Find faces as `analyse` does, without the 3DMM; det_size: by one pass at this size."""
        passes = self._passes if det_size is None else Passes([{"det_size": det_size}], None, 1.0)
        keypoints = TEMPLATE.repeat(len(images), 1, 1)
        score = torch.zeros(len(images))
        for row, photo in enumerate(_photos(images)):
            found = passes.find(photo, self._detect)
            if len(found):
                keypoints[row], score[row] = found.keypoints[0], found.score[0]
        return FaceGeometry(keypoints.to(images.device), score.to(images.device))

    @torch.no_grad()
    def fit(self, images: Tensor, faces: FaceGeometry) -> FaceGeometry:
        """Add the coefficients of the 3DMM, if there is one, to faces."""
        keypoints = faces.keypoints.to(images.device)
        with without_autocast(images.device):  # bfloat16 would move points
            fitted = None if self.face3d is None else self.face3d.fit(images, keypoints)
        return FaceGeometry(keypoints, faces.score.to(images.device), fitted)

    @torch.no_grad()
    def encode(
        self, images: Tensor, person_mask: Tensor, geometry: FaceGeometry
    ) -> tuple[Tensor, Tensor]:
        """Encode the matted, aligned face: patch tokens of `clip`, the recogniser's embedding."""
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
    """Convert images [B, 3, H, W] in [-1, 1] to photos uint8 [H, W, 3]."""
    pixels = (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())
