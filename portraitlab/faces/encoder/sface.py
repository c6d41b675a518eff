"""An encoder of real faces without non-commercial weights: YuNet and SFace, both by OpenCV.

YuNet: Wu et al., Machine Intelligence Research 2023. SFace: Zhong et al., IEEE TIP 2021.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from portraitlab.faces.encoder.models import PatchEncoder
from portraitlab.faces.encoder.passes import (
    FALLBACK,
    PASSES,
    SAME_FACE,
    Passes,
    check_minimum_score,
)
from portraitlab.faces.encoder.real import RealFaceEncoder
from portraitlab.faces.face3d.fitter import FaceFitter
from portraitlab.support.hashes import file_digest
from portraitlab.support.weights import PublishedFile, weights_file

_LOG = logging.getLogger(__name__)

_YUNET = PublishedFile(
    what="face_detection_yunet_2023mar.onnx",
    fetch="`hf download opencv/face_detection_yunet face_detection_yunet_2023mar.onnx`",
    licence="MIT",
    size="0.2 MB",
)
_SFACE = PublishedFile(
    what="face_recognition_sface_2021dec.onnx",
    fetch="`hf download opencv/face_recognition_sface face_recognition_sface_2021dec.onnx`",
    licence="Apache-2.0",
    size="39 MB",
)
_OVERLAP = 0.3  # threshold of YuNet's own suppression; OpenCV's default
_MOST = 5000  # boxes before suppression; OpenCV's default


class SFaceEncoder(RealFaceEncoder):
    """A face encoder by YuNet (keypoints), SFace (embedding [128]) and `clip` (local features).

    detector and recogniser: onnx files of the OpenCV zoo. clip: computes the local features.
    minimum_score: YuNet's threshold; its scores are higher than SCRFD's. passes, fallback,
    same_face: see `portraitlab.faces.encoder.passes.Passes`. face3d: fits a 3DMM to the faces that
    `analyse` finds; with None they have no coefficients.

    Raises ValueError where a file is missing, damaged or of another model, and for passes or
    scores out of range.
    """

    def __init__(
        self,
        clip: PatchEncoder,
        detector: str | None = None,
        recogniser: str | None = None,
        minimum_score: float = 0.7,
        passes: Sequence[Mapping[str, float]] = PASSES,
        fallback: Mapping[str, float] | None = FALLBACK,
        same_face: float = SAME_FACE,
        face3d: FaceFitter | None = None,
    ) -> None:
        import cv2

        all_passes = Passes(passes, fallback, same_face)
        check_minimum_score(minimum_score)
        yunet = weights_file(detector, "encoder.detector", _YUNET)
        sface = weights_file(recogniser, "encoder.recogniser", _SFACE)
        blank = np.zeros((112, 112, 3), np.uint8)
        # OpenCV accepts any onnx file for either model; only a trial run finds a wrong one.
        with _explained("encoder.detector", yunet, _YUNET):
            found = cv2.FaceDetectorYN.create(
                str(yunet), "", (112, 112), minimum_score, _OVERLAP, _MOST
            )
            found.detect(blank)
        with _explained("encoder.recogniser", sface, _SFACE):
            known = cv2.FaceRecognizerSF.create(str(sface), "")
            width = known.feature(blank).shape[-1]
        for file in (yunet, sface):
            _LOG.info("%s runs on the CPU, by OpenCV %s", file.name, cv2.__version__)
        digests = (file_digest(yunet), file_digest(sface))
        super().__init__(
            clip,
            all_passes,
            int(width),
            made_of=("sface", str(minimum_score), *digests),
            face3d=face3d,
        )
        self._detector, self._recogniser = found, known

    def _detect(
        self, photo: NDArray[np.uint8], det_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        import cv2

        height, width = photo.shape[:2]
        scale = det_size / max(height, width)
        resized = (max(round(width * scale), 1), max(round(height * scale), 1))
        filtering = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        bgr = cv2.resize(np.ascontiguousarray(photo[..., ::-1]), resized, interpolation=filtering)
        self._detector.setInputSize(resized)
        _, faces = self._detector.detect(bgr)
        if faces is None:
            return np.zeros((0, 5), np.float32), np.zeros((0, 5, 2), np.float32)
        # x, y, width, height, then x and y of five keypoints in the template's order, then score.
        back = np.array([width / resized[0], height / resized[1]], np.float32)
        low, extent = faces[:, :2] * back, faces[:, 2:4] * back
        boxes = np.concatenate([low, low + extent, faces[:, 14:15]], axis=1)
        return boxes, faces[:, 4:14].reshape(-1, 5, 2) * back

    def _embed(
        self, photo: NDArray[np.uint8], keypoints: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        face = np.concatenate([np.zeros(4), keypoints.ravel(), np.ones(1)]).astype(np.float32)
        crop = self._recogniser.alignCrop(np.ascontiguousarray(photo[..., ::-1]), face[None])
        embedding: NDArray[np.float32] = self._recogniser.feature(crop)[0].copy()
        return embedding


@contextmanager
def _explained(setting: str, file: Path, published: PublishedFile) -> Iterator[None]:
    """Raise a ValueError where OpenCV fails on a damaged file or another model."""
    import cv2

    try:
        yield
    except cv2.error as error:
        raise ValueError(
            f"{setting}={file} ({file.stat().st_size} bytes) is not the model that belongs there, "
            f"or is damaged: {error.err or error}. Download {published}"
        ) from error
