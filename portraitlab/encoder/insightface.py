"""Real faces: SCRFD finds them, a recogniser of an insightface pack embeds them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from portraitlab.alignment import TEMPLATE, align
from portraitlab.encoder.face_encoder import FaceEncoder, matted
from portraitlab.encoder.models import PatchEncoder
from portraitlab.encoder.packs import find_pack, load_pack
from portraitlab.face3d.fitter import FaceFitter
from portraitlab.fingerprint import weights_fingerprint
from portraitlab.types import FaceGeometry

_PASSES = ((640, 0.0), (320, 0.5))
"""Detector's input size and padding (share of the longer edge) of the passes every photo gets.

At 640 small faces are found, but not a face that fills the frame; at 320 with wide padding those.
"""

_LARGE = 1280
"""Input size of one more pass, for photos with more pixels than 640 in which nothing was found."""

_SAME_FACE = 0.4
"""From which intersection over union on two boxes are one face (as in SCRFD's own suppression)."""

_LOCAL_SIZE = 64
"""Edge in pixels of the aligned crop that the local features are taken from."""


class InsightFaceEncoder(FaceEncoder):
    """Keypoints and identity embedding by an insightface pack, local features by `clip`.

    root and name: see `portraitlab.encoder.packs.find_pack`. clip: a module that sees the local
    features. providers: onnxruntime's, best first. minimum_score: the detector's threshold.
    face3d: fits a 3DMM to the faces that `analyse` finds; without one they have no coefficients.

    Raises ValueError where the pack is missing, damaged or incomplete.
    """

    def __init__(
        self,
        root: str,
        clip: PatchEncoder,
        name: str | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        minimum_score: float = 0.5,
        face3d: FaceFitter | None = None,
    ) -> None:
        super().__init__()
        pack = find_pack(Path(root).expanduser(), name)
        models = load_pack(pack, ("detection", "recognition"), list(providers))
        self._detector, self._recogniser = models["detection"], models["recognition"]
        if not self._detector.use_kps:
            raise ValueError(f"The detector of the pack {pack} gives no keypoints; take SCRFD-KPS.")
        # Explicit, because insightface would otherwise choose sizes that differ between versions.
        self._detector.prepare(0, input_size=(640, 640), det_thresh=minimum_score)
        self.clip = clip
        self.face3d = face3d
        self.local_dim = clip.local_dim
        self.local_length = clip.local_length
        self.global_dim = int(self._recogniser.output_shape[-1])
        self.image_size = 256
        digests = [
            hashlib.sha256(Path(model.model_file).read_bytes()).hexdigest()
            for model in models.values()
        ]
        self.fingerprint = " ".join(
            ["insightface", str(minimum_score), *digests, weights_fingerprint(clip)]
            + ([face3d.fingerprint] if face3d is not None else [])
        )
        self.requires_grad_(False)
        self.eval()

    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """All faces, those that fill the frame and small ones alike, highest score first."""
        height, width = photo.shape[:2]
        passes = [self._detect(photo, size, padding) for size, padding in _PASSES]
        if not any(len(boxes) for boxes, _ in passes) and max(height, width) > _PASSES[0][0]:
            passes.append(self._detect(photo, _LARGE, 0.0))
        boxes = np.concatenate([boxes for boxes, _ in passes])
        keypoints = np.concatenate([points for _, points in passes])
        order = np.argsort(-boxes[:, 4], kind="stable")
        chosen: list[int] = []
        for face in order:
            if all(_overlap(boxes[face], boxes[other]) < _SAME_FACE for other in chosen):
                chosen.append(int(face))
        fractions = keypoints[chosen] / np.array([width, height])
        return FaceGeometry(
            keypoints=torch.tensor(fractions, dtype=torch.float32).reshape(-1, 5, 2),
            score=torch.tensor(boxes[chosen, 4], dtype=torch.float32),
        )

    def _detect(
        self, photo: NDArray[np.uint8], size: int, padding: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes with score [K, 5] and keypoints [K, 5, 2] in pixels of the unpadded photo."""
        border = round(max(photo.shape[:2]) * padding)
        padded = np.pad(photo, ((border, border), (border, border), (0, 0)))
        bgr = np.ascontiguousarray(padded[..., ::-1])
        boxes, keypoints = self._detector.detect(bgr, input_size=(size, size))
        boxes[:, :4] -= border
        return boxes, keypoints - border

    @torch.no_grad()
    def analyse(self, images: Tensor) -> FaceGeometry:
        """The best face of each image; where there is none, score 0 and the template's points."""
        keypoints = TEMPLATE.repeat(len(images), 1, 1)
        score = torch.zeros(len(images))
        for row, photo in enumerate(_photos(images)):
            found = self.find(photo)
            if len(found):
                keypoints[row], score[row] = found.keypoints[0], found.score[0]
        keypoints = keypoints.to(images.device)
        fitted = None if self.face3d is None else self.face3d.fit(images, keypoints)
        return FaceGeometry(keypoints, score.to(images.device), fitted)

    @torch.no_grad()
    def encode(
        self, images: Tensor, person_mask: Tensor, geometry: FaceGeometry
    ) -> tuple[Tensor, Tensor]:
        """Patch tokens by `clip` and the pack's embedding of the matted, aligned face."""
        from insightface.utils import face_align

        person = matted(images, person_mask)
        # The aligned crop samples bilinearly, so a large view is reduced before.
        reduced = functional.interpolate(
            person, (2 * _LOCAL_SIZE, 2 * _LOCAL_SIZE), mode="bilinear", antialias=True
        )
        local = self.clip.patch_tokens(align(reduced, geometry.keypoints, _LOCAL_SIZE))
        edge = self._recogniser.input_size[0]
        embeddings = []
        for photo, points in zip(_photos(person), geometry.keypoints.cpu().numpy(), strict=True):
            extent = np.array([photo.shape[1], photo.shape[0]])
            with warnings.catch_warnings():
                # insightface calls a method of scikit-image that is going to be renamed.
                warnings.simplefilter("ignore", FutureWarning)
                crop = face_align.norm_crop(photo[..., ::-1], points * extent, image_size=edge)
            embeddings.append(self._recogniser.get_feat(crop)[0])
        global_ = torch.tensor(np.stack(embeddings), dtype=torch.float32, device=images.device)
        return local, functional.normalize(global_, dim=-1)


def _photos(images: Tensor) -> list[NDArray[np.uint8]]:
    """Images [B, 3, H, W] in [-1, 1] as photos uint8 [H, W, 3]."""
    pixels = (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


def _overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2, …)."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:4], second[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = float(np.prod(first[2:4] - first[:2]) + np.prod(second[2:4] - second[:2]))
    return shared / max(areas - shared, 1e-9)
