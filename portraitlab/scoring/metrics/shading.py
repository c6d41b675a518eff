"""Shading: agreement of the light on the face with the style image's (IC-Portrait, Fig. 7)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, shadings
from portraitlab.scoring.shading import GRID
from portraitlab.types import Judged


class Shading(MeanMetric):
    """Correlation of the face's luminance over a coarse grid, generated to target.

    It does not depend on brightness and contrast. Features are part of it too: eyes and brows are
    darker in every light, so read it beside the bound `real other photo`, a photo in another light.
    A copy of the target's pixels has the best value.
    """

    higher_is_better = True
    reads = ("shading",)
    method = f"correlation of luminance in {GRID} x {GRID} cells of the aligned face"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; NaN without a face."""
        generated, target = (cells - cells.mean(dim=1, keepdim=True) for cells in shadings(judged))
        scale = (generated.norm(dim=1) * target.norm(dim=1)).clamp(min=1e-6)
        return (generated * target).sum(dim=1) / scale
