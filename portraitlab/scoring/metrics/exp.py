"""Exp: how far the expression is from the target's (HiFi-Portrait, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, distance_to_target
from portraitlab.types import Judged


class Expression(MeanMetric):
    """Root mean squared difference of expression coefficients, generated to target.

    Each coefficient is divided by its standard deviation over the real photos, so that 1 is as far
    as a coefficient usually is from its mean, and coefficients of small range count as much.
    """

    higher_is_better = False
    by_regressor = True
    method = "RMSE of {regressor}'s expression coefficients, each in its deviations"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Values [B], at least 0, in standard deviations of a coefficient."""
        unit = judged.population.deviation
        generated, target = judged.generated.expression, judged.target.expression
        return distance_to_target(generated / unit, target / unit, judged)
