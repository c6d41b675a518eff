"""Memory of one picture (FaceSnap, Table 1)."""

from __future__ import annotations

from portraitlab.scoring.metrics.metric import CostMetric
from portraitlab.types import DrawingCost


class Memory(CostMetric):
    """Most memory of a GPU, in gigabytes of 10^9 bytes, while one picture is drawn."""

    method = "most memory that torch allocated on the GPU for one picture, in GB; not on a CPU"

    def of(self, cost: DrawingCost) -> float:
        """Return the gigabytes, NaN on a CPU."""
        return cost.gigabytes
