"""The judge: frozen models that score generated images.

In the miniature world they share neither weights nor training people with what conditions and
trains. Of real photos, Exp and Pose are by the 3DMM fitter that draws the landmarks too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.alignment import align, face_crops
from portraitlab.faces.detector.base import FaceDetector
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.faces.encoder.models import Recogniser
from portraitlab.scoring.shading import shading
from portraitlab.support.checks import check_number
from portraitlab.support.hashes import content_key, tensors_digest, weights_fingerprint
from portraitlab.support.precision import computing_in, frozen_precision
from portraitlab.support.side_by_side import side_by_side
from portraitlab.support.tensor_cache import cached_tensors
from portraitlab.types import Population, View

if TYPE_CHECKING:
    from portraitlab.world.models.regressor import FaceRegressor


class ImageTextModel(Protocol):
    """Encoders of pictures and of texts to one space.

    title: name in records. sizing: description of the resizing in records.
    """

    title: str
    sizing: str

    def image_embedding(self, images: Tensor) -> Tensor:
        """Return unit embeddings [B, e'] of images [B, 3, H, H] in [-1, 1]."""
        ...

    def text_embedding(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings [B, e'] of prompts."""
        ...


class Features(Protocol):
    """An encoder of pictures. title: name in records."""

    title: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return features [B, f] of images [B, 3, H, W] in [-1, 1]."""
        ...


class Judge(nn.Module):
    """Frozen models that measure identity, face, picture, expression and pose of images.

    See HiFi-Portrait, Sec. 4.1. recogniser: not the one that conditions or trains. further: more
    recognisers, by which likeness is measured again. clip: the CLIP pair. regressor: predicts
    keypoints, coefficients and a face score (plays RetinaFace and DECA). detector: finds the faces
    of pictures of bodies and groups; None for portraits. fid_features: encoder of whole pictures;
    None uses the pair's embedding. dino: self-supervised encoder of whole pictures to unit
    embeddings; None measures none. face_threshold: least score of an image with a face. batch_size:
    images on the judge's device at once. precision: see
    portraitlab.support.precision.frozen_precision. cache: folder of views that are shared with
    other runs; None disables it.

    Raises ValueError for a threshold that no image, or every image, would reach.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        clip: ImageTextModel,
        regressor: FaceRegressor,
        fid_features: Features | None = None,
        further: Sequence[Recogniser] = (),
        face_threshold: float = 0.5,
        batch_size: int = 64,
        precision: str = "32-true",
        cache: str | None = None,
        detector: FaceDetector | None = None,
        dino: Features | None = None,
    ) -> None:
        super().__init__()
        check_number("judge.face_threshold", face_threshold, above=0, below=1)
        self.recogniser = recogniser
        self.further: Sequence[Recogniser] = nn.ModuleList(further)  # type: ignore[assignment, arg-type]
        self.clip = clip
        self.regressor = regressor
        self.fid_features = fid_features
        self.face_threshold = face_threshold
        self.batch_size = batch_size
        self.precision = precision
        self.cache = cache
        self.detector = detector
        self.dino = dino

    @property
    def titles(self) -> dict[str, str]:
        """Names of the models in records, which fill PortraitMetric.method."""
        clip = self.clip.title
        embedded = f"{clip} picture embeddings; whole image, {self.clip.sizing}"
        seen = embedded if self.fid_features is None else self.fid_features.title
        named = {"recogniser": self.recogniser.title, "regressor": self.regressor.title}
        if self.dino is not None:
            named["dino"] = self.dino.title
        return {"clip": clip, "features": seen, **named}

    @property
    def fingerprint(self) -> str:
        """Hash of all settings and weights that determine the view of a batch of images."""
        encoders = [part for part in self.modules() if isinstance(part, FaceEncoder)]
        return content_key(
            {
                "weights": weights_fingerprint(*self.children()),
                "titles": [self.titles, self.recognisers],
                "encoders": [encoder.fingerprint for encoder in encoders],
                "threshold": self.face_threshold,
                "fields": [field.name for field in fields(View) if field.default is MISSING],
                "precision": frozen_precision(self.precision, self._device),
            }
        )

    @property
    def recognisers(self) -> list[str]:
        """Names of the recognisers in records, in order."""
        return [each.title for each in (self.recogniser, *self.further)]

    @torch.inference_mode()
    def view(
        self, images: Iterable[Tensor], again: bool = False, wanted: Collection[str] = ()
    ) -> View:
        """Measure images, batches [b, 3, H, W] in [-1, 1] on any device; the view is on the CPU.

        again: cache the view of each batch by its content, for pictures that other runs measure
        too, such as references, targets and bounds. wanted: optional fields to measure as well.

        Raises ValueError where `dino` is wanted and the judge has no such encoder.
        """
        if "dino" in wanted and self.dino is None:
            raise ValueError(
                "metrics=dino needs a self-supervised encoder; choose dino=world or dino=vits16."
            )
        measured = [name for name in ("shading", "dino") if name in wanted]

        def measure(part: Tensor) -> dict[str, Tensor]:
            seen = vars(self._view(part, measured))
            return {name: value for name, value in seen.items() if value is not None}

        parts = self._measured("-".join(["view", *measured]), images, measure, again)
        seen = View.cat([View(**part) for part in parts])
        return replace(seen, face_features=seen.features) if "face_features" in wanted else seen

    @torch.inference_mode()
    def population(self, images: Iterable[Tensor]) -> Population:
        """Measure real photos as a set, batches [b, 3, H, W] in [-1, 1] on any device.

        Results are cached, since all runs are compared with the same photos.
        """

        def measure(part: Tensor) -> dict[str, Tensor]:
            seen = part.clamp(-1, 1)
            expression = self.regressor(seen).coefficients.expression
            return {"features": self._features(seen), "expression": expression}

        parts = list(self._measured("population", images, measure, again=True))
        features, expression = (
            torch.cat([part[name] for part in parts]) for name in ("features", "expression")
        )
        return Population(features, expression.std(dim=0))

    def _measured(
        self,
        kind: str,
        images: Iterable[Tensor],
        measure: Callable[[Tensor], Mapping[str, Tensor]],
        again: bool,
    ) -> Iterator[dict[str, Tensor]]:
        """Apply `measure` to each batch, with results on the CPU.

        again: read and write the cache.
        """
        parts = (part for batch in images for part in batch.split(self.batch_size))
        encoders = [part for part in self.modules() if isinstance(part, FaceEncoder)]
        concurrent = all(encoder.concurrent for encoder in encoders)
        folder = Path(self.cache) / "views" if again and self.cache is not None else None
        fingerprint = self.fingerprint if folder is not None else ""

        def measure_cached(part: Tensor) -> dict[str, Tensor]:
            def compute() -> dict[str, Tensor]:
                found = measure(part.to(self._device))
                # Tensors of one view may share memory: clone each.
                return {name: tensor.cpu().clone() for name, tensor in found.items()}

            if folder is None:
                return compute()
            return cached_tensors(folder, [kind, tensors_digest(part), fingerprint], compute)

        return side_by_side(measure_cached, parts, self._device, self.precision, concurrent)

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """Return unit embeddings [B, e'] of prompts by the CLIP pair, on the CPU."""
        parts = (prompts[i : i + self.batch_size] for i in range(0, len(prompts), self.batch_size))
        with computing_in(self.precision, self._device):
            return torch.cat([self.clip.text_embedding(list(part)).cpu() for part in parts])

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _features(self, images: Tensor) -> Tensor:
        see = self.clip.image_embedding if self.fid_features is None else self.fid_features
        return see(images)

    def _view(self, images: Tensor, measured: Collection[str]) -> View:
        images = images.clamp(-1, 1)
        picture = self.clip.image_embedding(images)
        geometry = self.regressor(images)
        points = geometry.keypoints
        has_face = geometry.score >= self.face_threshold
        return View(
            identity=self.recogniser(face_crops(images, points, self.recogniser)),
            face=self.clip.image_embedding(align(images, points, images.shape[-1])),
            picture=picture,
            features=picture if self.fid_features is None else self.fid_features(images),
            expression=geometry.coefficients.expression,
            pose=geometry.coefficients.pose[:, :3],
            has_face=has_face,
            further=self._further(images, points),
            faces=has_face.long(),
            shading=shading(images, points) if "shading" in measured else None,
            dino=self.dino(images) if self.dino is not None and "dino" in measured else None,
        )

    def _further(self, images: Tensor, points: Tensor) -> Tensor:
        """Return embeddings [B, J, e''] by the further recognisers, padded with zeros."""
        seen = [each(face_crops(images, points, each)) for each in self.further]
        width = max((each.shape[1] for each in seen), default=1)
        filled = [functional.pad(each, (0, width - each.shape[1])) for each in seen]
        return torch.stack(filled, dim=1) if filled else images.new_zeros(len(images), 0, width)
