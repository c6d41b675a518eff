"""Count: pictures with as many faces as people (MultiHuman-Testbench)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class Count(MeanMetric):
    """Share of pictures in which as many faces are found as there are people.

    The value of a picture counts for its first person.
    """

    higher_is_better = True
    method = "share of pictures with as many faces found as people"
    missed = "0"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B], 0 or 1; NaN for all but the first person of a picture."""
        number = judged.first.cumsum(0) - 1
        people = torch.bincount(number)[number]
        right = (judged.generated.faces == people).to(judged.generated.picture.dtype)
        return right.where(judged.first, torch.nan)
