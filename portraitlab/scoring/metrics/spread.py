"""Spread: disagreement of several judges about a likeness (MultiID-Bench has several)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from portraitlab.scoring.metrics.metric import Estimate, MeanMetric, similarity_to_references
from portraitlab.types import Judged


class Spread(MeanMetric):
    """Range of a portrait's likeness over the judging recognisers.

    Likeness is that of Sim_f; records also contain its mean by each recogniser. With one recogniser
    the metric is not measured.
    """

    higher_is_better = False
    method = "range of cosines over the judging recognisers, five-point aligned crops"
    missed = "0 by every judge"

    by_judge: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("by_judge", default=[], dist_reduce_fx="cat")

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [0, 2]; NaN with one judge, or if no reference shows a face."""
        likeness = self._likeness(judged)
        if likeness.shape[1] < 2:
            return likeness.new_full((len(likeness),), torch.nan)
        return likeness.amax(dim=1) - likeness.amin(dim=1)

    def update(self, judged: Judged) -> None:
        """Add a batch."""
        super().update(judged)
        self.by_judge.append(self._likeness(judged).double())

    def compute(self) -> Estimate:
        """Compute the mean range, and the mean likeness by each judge."""
        means = dim_zero_cat(self.by_judge).nanmean(dim=0)
        return super().compute()._replace(by_judge=tuple(means.tolist()))

    def _likeness(self, judged: Judged) -> Tensor:
        """Compute the likeness [B, 1 + J] by the recogniser and the J further ones."""
        generated, references = judged.generated, judged.references
        pairs = [(generated.identity, references.identity)]
        pairs += zip(generated.further.unbind(1), references.further.unbind(2), strict=True)
        return torch.stack([similarity_to_references(*pair, judged) for pair in pairs], dim=1)
