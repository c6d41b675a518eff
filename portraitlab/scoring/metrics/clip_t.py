"""CLIP-T: agreement of the picture with the prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class ClipT(MeanMetric):
    """Cosine of CLIP's image and text embeddings, generated picture to prompt."""

    higher_is_better = True
    method = "cosine of {clip} image and text embeddings, whole picture"
    missed = "as any picture"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; NaN for all but the first person of a picture."""
        cosine = (judged.generated.picture * judged.text).sum(dim=1)
        return cosine.where(judged.first, torch.nan)
