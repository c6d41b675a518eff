"""CLIP_f: likeness of the face to the person, by CLIP's image encoder (HiFi-Portrait, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, similarity_to_references
from portraitlab.types import Judged


class ClipF(MeanMetric):
    """Mean cosine of CLIP image embeddings, generated face to reference faces."""

    higher_is_better = True
    method = "cosine of {clip} image embeddings, five-point aligned crops"
    missed = "0"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]."""
        return similarity_to_references(judged.generated.face, judged.references.face, judged)
