"""Shading error: difference of the face's luminance from the style image's (IC-Portrait)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, shadings
from portraitlab.scoring.shading import GRID
from portraitlab.types import Judged


class ShadingError(MeanMetric):
    """Root mean squared difference of the face's luminance over a coarse grid.

    The colour of the skin counts as well as the light; shading_error_scaled leaves brightness out.
    A copy of the target's pixels has the best value.
    """

    higher_is_better = False
    reads = ("shading",)
    method = f"RMSE of luminance, 0 to 1, in {GRID} x {GRID} cells of the aligned face"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B], at least 0; NaN without a face."""
        generated, target = shadings(judged)
        return (generated - target).square().mean(dim=1).sqrt()
