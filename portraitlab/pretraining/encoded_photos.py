"""Encodings of photos by the frozen models: latents, control latents and embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.base import Cond
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.cond.landmarks5 import FiveLandmarkCond
from portraitlab.pretraining.faces import embed_faces
from portraitlab.pretraining.photos import TrainingPhotos
from portraitlab.types import FaceGeometry
from portraitlab.world.pretrained import load_face_model, load_recogniser, load_regressor

DRAWN: tuple[Callable[[], Cond], ...] = (
    lambda: LandmarkCond(load_face_model()),
    KeypointCond,
    FiveLandmarkCond,
)


class EncodedPhotos:
    """Latents of photos and of their control images, and the recogniser's embeddings.

    Each is computed when it is first needed, and kept.
    """

    def __init__(self, backbone: Backbone, photos: TrainingPhotos, device: str) -> None:
        self.backbone, self.photos, self.device = backbone, photos, torch.device(device)
        self.regressor = load_regressor().to(device)
        self.conds = [cond().to(device) for cond in DRAWN]
        size = backbone.latent_size
        rows = (1 + len(self.conds), len(photos))
        self.stored = torch.zeros(*rows, backbone.latent_channels, size, size, dtype=torch.half)
        self.known = torch.zeros(rows, dtype=torch.bool)
        self.recogniser = load_recogniser("recogniser").to(device)
        self.embeddings = torch.zeros(len(photos), self.recogniser.global_dim)
        self.embedded = torch.zeros(len(photos), dtype=torch.bool)

    def latents(self, index: Tensor) -> Tensor:
        """Return latents [B, c, h, w] of photos `index` [B]."""
        return self._read(0, index)

    def drawn(self, cond: int, index: Tensor) -> Tensor:
        """Return latents [B, c, h, w] of control images by DRAWN[cond]."""
        return self._read(1 + cond, index)

    @torch.no_grad()
    def identity(self, index: Tensor) -> Tensor:
        """Return the recogniser's unit embeddings [B, d] of photos `index`."""
        new = index[~self.embedded[index]].unique()
        if len(new):
            images = self.photos.pixels(new).to(self.device)
            with torch.autocast(self.device.type, enabled=False):
                self.embeddings[new] = embed_faces(images, self.regressor, self.recogniser).cpu()
            self.embedded[new] = True
        return self.embeddings[index].to(self.device)

    @torch.no_grad()
    def _read(self, row: int, index: Tensor) -> Tensor:
        new = index[~self.known[row, index]].unique()
        if len(new):
            images = self.photos.pixels(new).to(self.device)
            with torch.autocast(self.device.type, enabled=False):
                if row > 0:
                    images = draw(self.conds[row - 1], self.regressor(images), images.shape[-1])
                self.stored[row, new] = self.backbone.encode(images).half().cpu()
            self.known[row, new] = True
        return self.stored[row, index].float().to(self.device)


def draw(cond: Cond, geometry: FaceGeometry, size: int) -> Tensor:
    """Draw control images [B, 3, size, size] of faces by a cond, each with its own shape."""
    return cond(geometry, geometry, size)
