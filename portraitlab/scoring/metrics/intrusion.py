"""Intrusion: how much of the picture does a method change? After PuLID (arXiv 2404.16022)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class Intrusion(MeanMetric):
    """Cosine of CLIP image embeddings, portrait to what the backbone alone draws.

    Both from the same prompt and noise. 1 is a method that changes nothing, also not the face: it
    is read beside Sim_f. What a control image changes counts too, so that rows of one condition
    compare. Of the first `alone` samples, since each is drawn a second time.
    """

    higher_is_better = True
    method = "cosine of {clip} image embeddings to the backbone's own picture of the same noise"
    missed = "as any picture"

    def __init__(self, alone: int = 48) -> None:
        super().__init__()
        self.alone = alone

    def measure(self, judged: Judged) -> Tensor:
        """Values [B] in [-1, 1]; NaN where the backbone was not asked."""
        return (judged.generated.picture * judged.alone).sum(dim=1)
