"""The judge: frozen models that look at finished images and take no part in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from portraitlab.alignment import align, face_crops
from portraitlab.encoder.face_encoder import FaceEncoder
from portraitlab.encoder.models import Recogniser
from portraitlab.fingerprint import content_key, tensors_digest, weights_fingerprint
from portraitlab.precision import computing_in, frozen_precision
from portraitlab.side_by_side import side_by_side
from portraitlab.tensor_cache import cached_tensors
from portraitlab.types import View

if TYPE_CHECKING:
    from portraitlab.world.models.regressor import FaceRegressor


class Pair(Protocol):
    """Encoders of pictures and of texts to one space.

    title: how records name them. sizing: how pictures come to their size, for records.
    """

    title: str
    sizing: str

    def image_embedding(self, images: Tensor) -> Tensor:
        """Unit embeddings [B, e'] of images [B, 3, H, H] in [-1, 1]."""
        ...

    def text_embedding(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings [B, e'] of prompts."""
        ...


class Features(Protocol):
    """What FID sees of pictures. title: how records name it."""

    title: str

    def __call__(self, images: Tensor) -> Tensor:
        """Features [B, f] of images [B, 3, H, W] in [-1, 1]."""
        ...


class Judge(nn.Module):
    """Sees identity, face, picture, expression and pose (HiFi-Portrait, Sec. 4.1).

    recogniser: another than the one that conditions or trains. clip: the CLIP pair. regressor:
    gives keypoints, coefficients and a face score (plays RetinaFace and DECA). fid_features: of the
    whole picture; None takes the pair's embedding. face_threshold: an image that scores less holds
    no face. batch_size: of images that are looked at, and lie on the judge's device, at once.
    precision: that it computes in, see portraitlab.precision.frozen_precision. cache: folder for
    views that other runs need too; None keeps none.

    Raises ValueError for a threshold that none, or every image, would reach.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        clip: Pair,
        regressor: FaceRegressor,
        fid_features: Features | None = None,
        face_threshold: float = 0.5,
        batch_size: int = 64,
        precision: str = "32-true",
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 < face_threshold < 1:
            raise ValueError(
                f"judge.face_threshold={face_threshold}: a score between 0 and 1 is needed"
            )
        self.recogniser = recogniser
        self.clip = clip
        self.regressor = regressor
        self.fid_features = fid_features
        self.face_threshold = face_threshold
        self.batch_size = batch_size
        self.precision = precision
        self.cache = cache

    @property
    def titles(self) -> dict[str, str]:
        """What fills PortraitMetric.method: how records name what sees."""
        clip = self.clip.title
        embedded = f"{clip} picture embeddings; whole image, {self.clip.sizing}"
        seen = embedded if self.fid_features is None else self.fid_features.title
        named = {"recogniser": self.recogniser.title, "regressor": self.regressor.title}
        return {"clip": clip, "features": seen, **named}

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides what it sees in a batch of images."""
        encoders = [part for part in self.modules() if isinstance(part, FaceEncoder)]
        return content_key(
            {
                "weights": weights_fingerprint(*self.children()),
                "titles": self.titles,
                "encoders": [encoder.fingerprint for encoder in encoders],
                "threshold": self.face_threshold,
                "fields": [field.name for field in fields(View)],
                "precision": frozen_precision(self.precision, self._device),
            }
        )

    @torch.inference_mode()
    def view(self, images: Iterable[Tensor], again: bool = False) -> View:
        """Look at images, batches [b, 3, H, W] in [-1, 1] on any device; the view is on the CPU.

        again: the same pictures will be looked at for other runs, as references, targets and bounds
        are: each batch is looked up in the cache by its content.
        """
        folder = Path(self.cache) / "views" if again and self.cache is not None else None
        fingerprint = self.fingerprint if folder is not None else ""
        parts = (part for batch in images for part in batch.split(self.batch_size))
        concurrent = all(
            part.concurrent for part in self.modules() if isinstance(part, FaceEncoder)
        )

        def look(part: Tensor) -> View:
            def seen() -> dict[str, Tensor]:
                view = vars(self._view(part.to(self._device)).to("cpu"))
                return {name: tensor.clone() for name, tensor in view.items()}  # some are one

            if folder is None:
                return View(**seen())
            recipe = ["view", tensors_digest(part), fingerprint]
            return View(**cached_tensors(folder, recipe, seen))

        return View.cat(list(side_by_side(look, parts, self._device, self.precision, concurrent)))

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """Unit embeddings [B, e'] of prompts by the CLIP pair, on the CPU."""
        parts = (prompts[i : i + self.batch_size] for i in range(0, len(prompts), self.batch_size))
        with computing_in(self.precision, self._device):
            return torch.cat([self.clip.text_embedding(list(part)).cpu() for part in parts])

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _view(self, images: Tensor) -> View:
        images = images.clamp(-1, 1)
        picture = self.clip.image_embedding(images)
        geometry = self.regressor(images)
        return View(
            identity=self.recogniser(face_crops(images, geometry.keypoints, self.recogniser)),
            face=self.clip.image_embedding(align(images, geometry.keypoints, images.shape[-1])),
            picture=picture,
            features=picture if self.fid_features is None else self.fid_features(images),
            expression=geometry.coefficients.expression,
            pose=geometry.coefficients.pose[:, :3],
            has_face=geometry.score >= self.face_threshold,
        )
