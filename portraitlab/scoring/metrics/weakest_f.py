"""Weakest likeness: the least Sim_f among the people of a picture (FastComposer, UniPortrait)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, similarity_to_references
from portraitlab.types import Judged


class WeakestF(MeanMetric):
    """Mean over pictures of the least likeness among a picture's people.

    Likeness is that of Sim_f, 0 for a person whose face is not found at their place. The value of a
    picture counts for its first person. Of portraits it is Sim_f.
    """

    higher_is_better = True
    method = "least cosine of {recogniser}'s embeddings among the people of a picture"
    missed = "0"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; NaN for all but the first person of a picture."""
        likeness = similarity_to_references(
            judged.generated.identity, judged.references.identity, judged
        )
        number = judged.first.cumsum(0) - 1
        least = torch.full((int(number[-1]) + 1,), torch.inf, dtype=likeness.dtype)
        least = least.scatter_reduce(0, number, likeness, "amin")
        return least[number].where(judged.first, torch.nan)
