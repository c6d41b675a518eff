"""CLIP-I: likeness of the whole picture to the target, by CLIP (FPGA, Sec. 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class ClipI(MeanMetric):
    """Cosine of CLIP's image embeddings, generated picture to target."""

    higher_is_better = True
    method = "cosine of {clip} image embeddings with the target's, whole picture"
    missed = "as any picture"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; NaN for all but the first person of a picture."""
        cosine = (judged.generated.picture * judged.target.picture).sum(dim=1)
        return cosine.where(judged.first, torch.nan)
