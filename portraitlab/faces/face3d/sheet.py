"""A contact sheet by which people judge a 3D morphable model: landmarks, and shapes swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from portraitlab.faces.face3d.fitter import FaceModel
from portraitlab.method.cond.drawing import draw
from portraitlab.method.cond.landmarks import STROKES
from portraitlab.scoring.pictures import grid
from portraitlab.types import FaceCoefficients

_DIMMED = 0.5
_LINES = [replace(stroke, width=0.01) for stroke in STROKES]  # finer than those for a net


def swap_sheet(
    portraits: Tensor, coefficients: FaceCoefficients, model: FaceModel, names: Sequence[str]
) -> Image.Image:
    """A row for each of B people: portrait, landmarks on it, and their shape as all others look.

    portraits [B, 3, K, K] in [-1, 1], coefficients [B]. In column j of the last B lies the row's
    shape under person j's expression and pose, over person j's portrait, dimmed.
    """
    rows = []
    for row, portrait in enumerate(portraits):
        shape = coefficients.shape[row].expand_as(coefficients.shape)
        swapped = FaceCoefficients(shape, coefficients.expression, coefficients.pose)
        lines = _over(portraits, model.landmarks(swapped))
        rows.append([portrait, *lines])
    titles = ["shape of the row ...", *(f"... as {name}" for name in names)]
    return grid(titles, rows, portraits.shape[-1])


def _over(portraits: Tensor, landmarks: Tensor) -> Tensor:
    """Landmarks [B, 68, 2] as lines over dimmed portraits [B, 3, K, K]."""
    dimmed = _DIMMED * (portraits + 1) - 1
    return torch.maximum(dimmed, draw(landmarks, _LINES, portraits.shape[-1]))
