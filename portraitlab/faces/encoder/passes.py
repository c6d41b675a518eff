"""Looks for faces at several sizes: no detector finds small faces and those that fill the frame."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from portraitlab.types import FaceGeometry

_LOG = logging.getLogger(__name__)

Detect = Callable[[NDArray[np.uint8], int], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Photo uint8 [H, W, 3] RGB and det_size to boxes (x1, y1, x2, y2, score) [K, 5] and keypoints
[K, 5, 2] in its pixels, 0 in the middle of the first, as all insightface and OpenCV's."""


@dataclass(frozen=True)
class Pass:
    """One look at a photo.

    det_size: edge in pixels of the square that the photo is fitted into. padding: black border
    around the photo before that, as a share of its longer edge.
    """

    det_size: int
    padding: float = 0.0

    def __post_init__(self) -> None:
        # SCRFD's and YuNet's coarsest maps are 32 times smaller than what they see.
        numbers = type(self.det_size) is int and isinstance(self.padding, int | float)
        if not numbers or self.det_size < 32 or self.det_size % 32 or not 0 <= self.padding <= 2:
            raise ValueError(
                f"A pass with det_size={self.det_size}, padding={self.padding} is none: det_size "
                "must be a multiple of 32 pixels, padding a share from 0 to 2 of the longer edge."
            )

    def __str__(self) -> str:
        return f"{self.det_size}" + (f" with padding {self.padding:g}" if self.padding else "")


PASSES: Sequence[Mapping[str, float]] = ({"det_size": 640}, {"det_size": 320, "padding": 0.5})
FALLBACK: Mapping[str, float] | None = {"det_size": 1280}
SAME_FACE = 0.4  # as in SCRFD's own suppression


class Passes:
    """The looks at every photo, and one more at photos in which they found nothing.

    passes: settings of each Pass. fallback: of one more, for photos with more pixels than the
    first pass sees; None: there is none. same_face: from which intersection over union on two
    boxes are one face.

    Raises ValueError for settings without a meaning.
    """

    def __init__(
        self,
        passes: Sequence[Mapping[str, float]],
        fallback: Mapping[str, float] | None,
        same_face: float,
    ) -> None:
        if not passes or not 0 < same_face <= 1:
            raise ValueError(
                f"encoder.passes={list(passes)} with encoder.same_face={same_face} finds nothing: "
                "give at least one pass, and same_face above 0 and up to 1."
            )
        self.passes = [_pass(settings) for settings in passes]
        self.fallback = None if fallback is None else _pass(fallback)
        self.same_face = same_face

    def __str__(self) -> str:
        looks = "at det_size " + " and ".join(map(str, self.passes))
        return looks + (f", where that finds none at {self.fallback}" if self.fallback else "")

    @property
    def fingerprint(self) -> str:
        """What decides which faces are found, for caches."""
        return f"{self} overlap {self.same_face}"

    def find(self, photo: NDArray[np.uint8], detect: Detect) -> FaceGeometry:
        """All faces of a photo uint8 [H, W, 3], each once, highest score first."""
        height, width = photo.shape[:2]
        looks = [_look(photo, each, detect) for each in self.passes]
        enlarges = max(height, width) <= self.passes[0].det_size
        if self.fallback and not enlarges and not any(len(boxes) for boxes, _ in looks):
            looks.append(_look(photo, self.fallback, detect))
            _LOG.debug(
                "no face in %d x %d pixels: the look at det_size %s found %d",
                width, height, self.fallback, len(looks[-1][0]),
            )  # fmt: skip
        boxes = np.concatenate([boxes for boxes, _ in looks])
        keypoints = np.concatenate([points for _, points in looks])
        chosen: list[int] = []
        for face in np.argsort(-boxes[:, 4], kind="stable"):
            if all(_overlap(boxes[face], boxes[other]) < self.same_face for other in chosen):
                chosen.append(int(face))
        # A detector counts from the middle of the first pixel, fractions from its edge.
        fractions = (keypoints[chosen] + 0.5) / np.array([width, height])
        return FaceGeometry(
            keypoints=torch.tensor(fractions, dtype=torch.float32).reshape(-1, 5, 2),
            score=torch.tensor(boxes[chosen, 4], dtype=torch.float32),
        )


def check_minimum_score(score: float) -> None:
    """Raises ValueError where no face, or anything at all, would score as much."""
    if not isinstance(score, int | float) or not 0 < score < 1:
        raise ValueError(f"encoder.minimum_score={score} must lie between 0 and 1.")


def _pass(settings: Mapping[str, float]) -> Pass:
    unknown = set(settings) - {"det_size", "padding"}
    if unknown or "det_size" not in settings:
        raise ValueError(
            f"encoder.passes or encoder.fallback has {dict(settings)}; a pass is a det_size and, "
            "where wanted, a padding, as {det_size: 640, padding: 0.5}."
        )
    return Pass(**settings)  # type: ignore[arg-type]


def _look(
    photo: NDArray[np.uint8], each: Pass, detect: Detect
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes and keypoints in pixels of the unpadded photo."""
    border = round(max(photo.shape[:2]) * each.padding)
    padded = np.pad(photo, ((border, border), (border, border), (0, 0)))
    boxes, keypoints = detect(padded, each.det_size)
    shift = np.array([border] * 4 + [0], dtype=np.float32)
    return boxes - shift, keypoints - border


def _overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2, …)."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:4], second[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = float(np.prod(first[2:4] - first[:2]) + np.prod(second[2:4] - second[:2]))
    return shared / max(areas - shared, 1e-9)
