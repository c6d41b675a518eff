"""Pose: distance of the head's pose to the target's (HiFi-Portrait, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, distance_to_target
from portraitlab.types import Judged


class Pose(MeanMetric):
    """Root mean squared difference of yaw, pitch and roll, generated to target."""

    higher_is_better = False
    by_regressor = True
    method = "RMSE of {regressor}'s yaw, pitch and roll"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B], at least 0, in radians."""
        return distance_to_target(judged.generated.pose, judged.target.pose, judged)
