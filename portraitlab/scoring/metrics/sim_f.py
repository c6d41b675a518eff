"""Sim_f: likeness of the face to the person, by a recogniser (HiFi-Portrait, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, similarity_to_references
from portraitlab.types import Judged


class SimF(MeanMetric):
    """Mean cosine of the judging recogniser's embeddings, generated face to reference faces.

    By default the references are real photos that were not conditioned on, so that copying a
    conditioned photo is no advantage.
    """

    higher_is_better = True
    method = "cosine of {recogniser}'s embeddings, five-point aligned crops"
    missed = "0"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]."""
        return similarity_to_references(
            judged.generated.identity, judged.references.identity, judged
        )
