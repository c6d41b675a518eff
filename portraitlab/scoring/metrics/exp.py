"""Exp: distance of the expression to the target's (HiFi-Portrait, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, distance_to_target
from portraitlab.types import Judged


class Expression(MeanMetric):
    """Root mean squared difference of expression coefficients, generated to target.

    Each coefficient is divided by its standard deviation over the real photos, so that 1 is the
    usual distance of a coefficient from its mean, and coefficients of small range count equally.
    """

    higher_is_better = False
    by_regressor = True
    method = "RMSE of {regressor}'s expression coefficients, each in its deviations"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B], at least 0, in standard deviations of a coefficient."""
        unit = judged.population.deviation
        generated, target = judged.generated.expression, judged.target.expression
        return distance_to_target(generated / unit, target / unit, judged)
