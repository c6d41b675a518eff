"""The judge: frozen models that look at finished images.

Its recognisers take no part in conditioning or training. Its CLIP pair and face regressor are by
default those that condition and train (config.yaml); choices of their own are clip_pair and
regressor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.alignment import align, face_crops
from portraitlab.encoder.models import Recogniser
from portraitlab.types import Population, View

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

    recogniser: another than the one that conditions or trains. further: more of them, by which the
    same likeness is measured again. clip: the CLIP pair. regressor:
    gives keypoints, coefficients and a face score (plays RetinaFace and DECA). fid_features: of the
    whole picture; None takes the pair's embedding. face_threshold: an image that scores less holds
    no face. batch_size: of images that are looked at, and lie on the judge's device, at once.

    Raises ValueError for a threshold that none, or every image, would reach.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        clip: Pair,
        regressor: FaceRegressor,
        fid_features: Features | None = None,
        further: Sequence[Recogniser] = (),
        face_threshold: float = 0.5,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        if not 0 < face_threshold < 1:
            raise ValueError(
                f"judge.face_threshold={face_threshold}: a score between 0 and 1 is needed"
            )
        self.recogniser = recogniser
        self.further: Sequence[Recogniser] = nn.ModuleList(further)  # type: ignore[assignment, arg-type]
        self.clip = clip
        self.regressor = regressor
        self.fid_features = fid_features
        self.face_threshold = face_threshold
        self.batch_size = batch_size

    @property
    def titles(self) -> dict[str, str]:
        """What fills PortraitMetric.method: how records name what sees."""
        clip = self.clip.title
        embedded = f"{clip} picture embeddings; whole image, {self.clip.sizing}"
        seen = embedded if self.fid_features is None else self.fid_features.title
        named = {"recogniser": self.recogniser.title, "regressor": self.regressor.title}
        return {"clip": clip, "features": seen, **named}

    @property
    def recognisers(self) -> list[str]:
        """How records name the recognisers, the first one first."""
        return [each.title for each in (self.recogniser, *self.further)]

    @torch.inference_mode()
    def view(self, images: Iterable[Tensor]) -> View:
        """Look at images, batches [b, 3, H, W] in [-1, 1] on any device; the view is on the CPU."""
        parts = (part for batch in images for part in batch.split(self.batch_size))
        return View.cat([self._view(part.to(self._device)).to("cpu") for part in parts])

    @torch.inference_mode()
    def population(self, images: Iterable[Tensor]) -> Population:
        """Look at real photos as a set, batches [b, 3, H, W] in [-1, 1] on any device."""
        features, expression = [], []
        for part in (part for batch in images for part in batch.split(self.batch_size)):
            seen = part.to(self._device).clamp(-1, 1)
            features.append(self._features(seen).cpu())
            expression.append(self.regressor(seen).coefficients.expression.cpu())
        return Population(torch.cat(features), torch.cat(expression).std(dim=0))

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """Unit embeddings [B, e'] of prompts by the CLIP pair, on the CPU."""
        parts = (prompts[i : i + self.batch_size] for i in range(0, len(prompts), self.batch_size))
        return torch.cat([self.clip.text_embedding(list(part)).cpu() for part in parts])

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _features(self, images: Tensor) -> Tensor:
        see = self.clip.image_embedding if self.fid_features is None else self.fid_features
        return see(images)

    def _view(self, images: Tensor) -> View:
        images = images.clamp(-1, 1)
        picture = self.clip.image_embedding(images)
        geometry = self.regressor(images)
        points = geometry.keypoints
        return View(
            identity=self.recogniser(face_crops(images, points, self.recogniser)),
            face=self.clip.image_embedding(align(images, points, images.shape[-1])),
            picture=picture,
            features=picture if self.fid_features is None else self.fid_features(images),
            expression=geometry.coefficients.expression,
            pose=geometry.coefficients.pose[:, :3],
            has_face=geometry.score >= self.face_threshold,
            further=self._further(images, points),
        )

    def _further(self, images: Tensor, points: Tensor) -> Tensor:
        """Embeddings [B, J, e''] by the further recognisers, filled up with zeros."""
        seen = [each(face_crops(images, points, each)) for each in self.further]
        width = max((each.shape[1] for each in seen), default=1)
        filled = [functional.pad(each, (0, width - each.shape[1])) for each in seen]
        return torch.stack(filled, dim=1) if filled else images.new_zeros(len(images), 0, width)
