"""Exp: how far the expression is from the target's (HiFi-Portrait, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, distance_to_target
from portraitlab.types import Judged


class Expression(MeanMetric):
    """Root mean squared difference of expression coefficients, generated to target."""

    higher_is_better = False
    method = "RMSE of {regressor}'s expression coefficients"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Values [B], at least 0, in standard deviations of a coefficient."""
        return distance_to_target(judged.generated.expression, judged.target.expression, judged)
