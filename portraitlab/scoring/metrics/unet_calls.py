"""Calls of the UNet for one picture, beside which its seconds are to be read."""

from __future__ import annotations

from portraitlab.scoring.metrics.metric import CostMetric
from portraitlab.types import DrawingCost


class UNetCalls(CostMetric):
    """Calls of the UNet for one picture: steps of the sampler, twice as many with guidance."""

    method = "calls of the UNet for one picture"

    def of(self, cost: DrawingCost) -> float:
        """Return the number of calls."""
        return float(cost.unet_calls)
