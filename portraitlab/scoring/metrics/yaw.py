"""Yaw: error of the view, as IC-Portrait's portraits follow that of the style image."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class Yaw(MeanMetric):
    """Absolute difference of the head's yaw, generated to target; Pose mixes it with two angles."""

    higher_is_better = False
    by_regressor = True
    method = "absolute difference of {regressor}'s yaw, in degrees"
    missed = "left out"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in degrees; NaN without a face."""
        generated, target = judged.generated, judged.target
        error = (generated.pose[:, 0] - target.pose[:, 0]).abs().rad2deg()
        return error.where(generated.has_face & target.has_face, torch.nan)
