"""An encoder of real faces by an insightface pack: SCRFD detects, the pack's recogniser embeds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from portraitlab.faces.encoder.models import PatchEncoder
from portraitlab.faces.encoder.packs import find_pack, load_pack
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


class InsightFaceEncoder(RealFaceEncoder):
    """A face encoder by an insightface pack (keypoints, embedding) and `clip` (local features).

    root and name: see `portraitlab.faces.encoder.packs.find_pack`. clip: computes the local
    features. providers: onnxruntime's, best first. minimum_score: the detector's threshold.
    passes, fallback, same_face: see `portraitlab.faces.encoder.passes.Passes`.
    face3d: fits a 3DMM to the faces that `analyse` finds; with None they have no coefficients.

    Raises ValueError where the pack is missing, damaged or incomplete, and for passes or scores
    out of range.
    """

    def __init__(
        self,
        root: str | None,
        clip: PatchEncoder,
        name: str | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        minimum_score: float = 0.5,
        passes: Sequence[Mapping[str, float]] = PASSES,
        fallback: Mapping[str, float] | None = FALLBACK,
        same_face: float = SAME_FACE,
        face3d: FaceFitter | None = None,
    ) -> None:
        all_passes = Passes(passes, fallback, same_face)
        check_minimum_score(minimum_score)
        pack = find_pack(None if root is None else Path(root), name)
        models = load_pack(pack, ("detection", "recognition"), providers)
        detector, recogniser = models["detection"], models["recognition"]
        if not detector.use_kps:
            raise ValueError(f"The detector of the pack {pack} gives no keypoints; take SCRFD-KPS.")
        # The default input size differs between versions of insightface.
        detector.prepare(0, input_size=(640, 640), det_thresh=minimum_score)
        digests = [file_digest(Path(model.model_file)) for model in models.values()]
        super().__init__(
            clip,
            all_passes,
            int(recogniser.output_shape[-1]),
            made_of=("insightface", str(minimum_score), *digests),
            face3d=face3d,
        )
        self._detector, self._recogniser = detector, recogniser

    def _detect(
        self, photo: NDArray[np.uint8], det_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        bgr = np.ascontiguousarray(photo[..., ::-1])
        boxes, keypoints = self._detector.detect(bgr, input_size=(det_size, det_size))
        return boxes, keypoints

    def _embed(
        self, photo: NDArray[np.uint8], keypoints: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        from insightface.utils import face_align

        edge = self._recogniser.input_size[0]
        with warnings.catch_warnings():
            # insightface calls a deprecated method of scikit-image.
            warnings.simplefilter("ignore", FutureWarning)
            crop = face_align.norm_crop(photo[..., ::-1], keypoints, image_size=edge)
        embedding: NDArray[np.float32] = self._recogniser.get_feat(crop)[0]
        return embedding
