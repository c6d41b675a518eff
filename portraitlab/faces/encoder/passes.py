"""Detect faces at several sizes: one alone misses small faces, or those that fill the frame."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from portraitlab.support.checks import check_number, first_error
from portraitlab.types import FaceGeometry

_LOG = logging.getLogger(__name__)

Detect = Callable[[NDArray[np.uint8], int], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""A function from a photo uint8 [H, W, 3] RGB and det_size to boxes (x1, y1, x2, y2, score) [K, 5]
and keypoints [K, 5, 2] in pixels, 0 at the first pixel's centre, as in insightface and OpenCV."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Pass:
    """One detection pass over a photo.

    det_size: edge in pixels of the square that the photo is resized into. padding: black border
    added around the photo first, as a fraction of its longer edge.
    """

    # SCRFD's and YuNet's coarsest maps are 32 times smaller than their input.
    det_size: Annotated[int, Field(strict=True, gt=0, multiple_of=32)]
    padding: Annotated[float, Field(strict=True, ge=0, le=2)] = 0.0

    def __str__(self) -> str:
        return f"{self.det_size}" + (f" with padding {self.padding:g}" if self.padding else "")


PASSES: Sequence[Mapping[str, float]] = ({"det_size": 640}, {"det_size": 320, "padding": 0.5})
FALLBACK: Mapping[str, float] | None = {"det_size": 1280}
SAME_FACE = 0.4  # as in SCRFD's own suppression


class Passes:
    """The detection passes over every photo, and a fallback where they find nothing.

    passes: settings of each Pass. fallback: settings of one more pass, for photos larger than the
    first pass's det_size; None for no fallback. same_face: intersection over union from which two
    boxes are the same face.

    Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        passes: Sequence[Mapping[str, float]],
        fallback: Mapping[str, float] | None,
        same_face: float,
    ) -> None:
        if not passes or not 0 < same_face <= 1:
            raise ValueError(
                f"encoder.passes={list(passes)} with encoder.same_face={same_face} cannot find "
                "faces: give at least one pass, and same_face above 0 and up to 1."
            )
        self.passes = [_pass(settings) for settings in passes]
        self.fallback = None if fallback is None else _pass(fallback)
        self.same_face = same_face

    def __str__(self) -> str:
        passes = "at det_size " + " and ".join(map(str, self.passes))
        return passes + (f", where that finds none at {self.fallback}" if self.fallback else "")

    @property
    def fingerprint(self) -> str:
        """The settings that determine which faces are found, for cache keys."""
        return f"{self} overlap {self.same_face}"

    def find(self, photo: NDArray[np.uint8], detect: Detect) -> FaceGeometry:
        """Find all faces of a photo uint8 [H, W, 3], each once, highest score first."""
        # Detect faces in every pass.
        height, width = photo.shape[:2]
        detected = [_run_pass(photo, each, detect) for each in self.passes]
        enlarges = max(height, width) <= self.passes[0].det_size
        if self.fallback and not enlarges and not any(len(boxes) for boxes, _ in detected):
            detected.append(_run_pass(photo, self.fallback, detect))
            _LOG.debug(
                "no face in %d x %d pixels: the pass at det_size %s found %d",
                width, height, self.fallback, len(detected[-1][0]),
            )  # fmt: skip
        # Keep the best box of each face.
        boxes = np.concatenate([boxes for boxes, _ in detected])
        keypoints = np.concatenate([points for _, points in detected])
        chosen: list[int] = []
        for face in np.argsort(-boxes[:, 4], kind="stable"):
            if all(_overlap(boxes[face], boxes[other]) < self.same_face for other in chosen):
                chosen.append(int(face))
        # Detectors count from the first pixel's centre, fractions from its edge.
        fractions = (keypoints[chosen] + 0.5) / np.array([width, height])
        return FaceGeometry(
            keypoints=torch.tensor(fractions, dtype=torch.float32).reshape(-1, 5, 2),
            score=torch.tensor(boxes[chosen, 4], dtype=torch.float32),
        )


def check_minimum_score(score: float) -> None:
    """Check that a detector's threshold is between 0 and 1. Raises ValueError where it is not."""
    check_number("encoder.minimum_score", score, above=0, below=1)


def _pass(settings: Mapping[str, float]) -> Pass:
    try:
        return Pass(**settings)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(
            f"encoder.passes or encoder.fallback has {dict(settings)} ({first_error(error)}); a "
            "pass is a det_size in pixels and optionally a padding in longer edges, as "
            "{det_size: 640, padding: 0.5}."
        ) from error


def _run_pass(
    photo: NDArray[np.uint8], each: Pass, detect: Detect
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Detect boxes and keypoints, in pixels of the unpadded photo."""
    border = round(max(photo.shape[:2]) * each.padding)
    padded = np.pad(photo, ((border, border), (border, border), (0, 0)))
    boxes, keypoints = detect(padded, each.det_size)
    shift = np.array([border] * 4 + [0], dtype=np.float32)
    return boxes - shift, keypoints - border


def _overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Compute the intersection over union of two boxes (x1, y1, x2, y2, …)."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:4], second[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = float(np.prod(first[2:4] - first[:2]) + np.prod(second[2:4] - second[:2]))
    return shared / max(areas - shared, 1e-9)
