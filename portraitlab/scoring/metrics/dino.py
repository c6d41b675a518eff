"""DINO: likeness of the whole picture to the target, by a self-supervised encoder (FPGA, Sec. 4.1).

The score is DreamBooth's DINO (Ruiz et al., CVPR 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class Dino(MeanMetric):
    """Cosine of a self-supervised encoder's embeddings, generated picture to target."""

    higher_is_better = True
    reads = ("dino",)
    method = "cosine of {dino} embeddings with the target's, whole picture"
    missed = "as any picture"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; NaN for all but the first person of a picture."""
        assert judged.generated.dino is not None
        assert judged.target.dino is not None
        cosine = (judged.generated.dino * judged.target.dino).sum(dim=1)
        return cosine.where(judged.first, torch.nan)
