"""Light: angle between the light on the face and that of the style image (IC-Portrait)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class LightAngle(MeanMetric):
    """Angle between the light estimated of the generated face and the target's true light.

    Only rendered targets have a true light; other targets are skipped. The estimate has an error of
    its own, which is the bound `regressor against truth`: a copy of the target's pixels has that
    value.

    estimator: returns unit vectors [B, 3] to the light from shading [B, K, K] and pose [B, 3].
    """

    higher_is_better = False
    by_regressor = True
    reads = ("shading", "light")
    method = "degrees between the light estimated from the face's shading and the rendered one"
    missed = "left out"

    def __init__(self, estimator: nn.Module) -> None:
        super().__init__()
        self.estimator = estimator

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [0, 180]; NaN without a face, or without a true light."""
        generated = judged.generated
        if judged.light is None:
            return generated.pose.new_full((len(generated),), torch.nan)
        assert generated.shading is not None
        with torch.no_grad():
            found = self.estimator(generated.shading, generated.pose)
        angle = (found * judged.light).sum(dim=1).clamp(-1, 1).acos().rad2deg()
        return angle.where(generated.has_face, torch.nan)
