"""Spread: how far do several judges differ in a likeness? (MultiID-Bench has several)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from portraitlab.scoring.metrics.metric import Estimate, MeanMetric, similarity_to_references
from portraitlab.types import Judged


class Spread(MeanMetric):
    """Greatest less smallest likeness of a portrait, over the recognisers that judge.

    Likeness is that of Sim_f; the record also has its mean by each recogniser. Not measured where
    there is but one.
    """

    higher_is_better = False
    method = "range of cosines over the judging recognisers, five-point aligned crops"
    missed = "0 by every judge"

    by_judge: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("by_judge", default=[], dist_reduce_fx="cat")

    def measure(self, judged: Judged) -> Tensor:
        """Values [B] in [0, 2]; NaN with one judge, and where no reference shows a face."""
        likeness = self._likeness(judged)
        if likeness.shape[1] < 2:
            return likeness.new_full((len(likeness),), torch.nan)
        return likeness.amax(dim=1) - likeness.amin(dim=1)

    def update(self, judged: Judged) -> None:
        """Take in a batch."""
        super().update(judged)
        self.by_judge.append(self._likeness(judged).double())

    def compute(self) -> Estimate:
        """The mean range, and the mean likeness by each judge."""
        means = dim_zero_cat(self.by_judge).nanmean(dim=0)
        return super().compute()._replace(by_judge=tuple(means.tolist()))

    def _likeness(self, judged: Judged) -> Tensor:
        """Likeness [B, 1 + J] by the recogniser and the J further ones."""
        generated, references = judged.generated, judged.references
        pairs = [(generated.identity, references.identity)]
        pairs += zip(generated.further.unbind(1), references.further.unbind(2), strict=True)
        return torch.stack([similarity_to_references(*pair, judged) for pair in pairs], dim=1)
