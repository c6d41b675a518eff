"""Seconds of one picture (FaceSnap, Table 1)."""

from __future__ import annotations

from portraitlab.scoring.metrics.metric import CostMetric
from portraitlab.types import DrawingCost


class Seconds(CostMetric):
    """Seconds to draw one picture alone; they compare rows of one machine only."""

    method = "seconds of one picture drawn alone, without encoding the references"

    def of(self, cost: DrawingCost) -> float:
        """Return the seconds."""
        return cost.seconds
