"""Intrusion: similarity of the picture to the backbone's own. After PuLID (arXiv 2404.16022)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class Intrusion(MeanMetric):
    """Cosine of CLIP image embeddings, between a portrait and the picture of the backbone alone.

    Both are drawn from the same prompt and noise. 1 is a method that changes nothing, including the
    face, so the metric is read together with Sim_f. Changes by a control image count too, so only
    rows with the same condition are comparable. It is computed on the first `alone` samples,
    because each is drawn a second time.
    """

    higher_is_better = True
    method = "cosine of {clip} image embeddings to the backbone's own picture of the same noise"
    missed = "as any picture"

    def __init__(self, alone: int = 48) -> None:
        super().__init__()
        self.alone = alone

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; NaN for samples that the backbone did not draw."""
        return (judged.generated.picture * judged.alone).sum(dim=1)
