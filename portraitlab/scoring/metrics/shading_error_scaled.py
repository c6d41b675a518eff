"""Shading error after the best brightness factor, as scores of relighting depend much on it."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, shadings
from portraitlab.scoring.shading import GRID
from portraitlab.types import Judged


class ShadingErrorScaled(MeanMetric):
    """ShadingError of the generated luminance times the factor that makes it least.

    A copy of the target's pixels has the best value, also a darker or lighter one.
    """

    higher_is_better = False
    reads = ("shading",)
    method = f"RMSE of luminance, scaled to fit, in {GRID} x {GRID} cells of the aligned face"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B], at least 0; NaN without a face."""
        generated, target = shadings(judged)
        power = generated.square().sum(dim=1, keepdim=True).clamp(min=1e-6)
        factor = (generated * target).sum(dim=1, keepdim=True) / power
        return (factor * generated - target).square().mean(dim=1).sqrt()
