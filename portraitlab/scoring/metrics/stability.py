"""Stability: how alike portraits from different noise are (IC-Portrait, Sec. 4.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric
from portraitlab.types import Judged


class Stability(MeanMetric):
    """Mean cosine between the faces of portraits that differ in their noise alone.

    The paper names "a trade-off with generation stability" and prints no number. Read here: by the
    judging recogniser's embeddings, over pairs of portraits of one person and target. It needs
    data.noise_seeds of two or more. Portraits that are all alike have 1, whomever they show.
    """

    higher_is_better = True
    method = (
        "cosine of {recogniser}'s embeddings between portraits of one condition from other noise"
    )
    missed = "0"

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; 0 without a face, NaN where no other portrait is alike."""
        # Portraits of one condition have the same person and the same target.
        condition = torch.cat(
            [judged.identity[:, None].double(), judged.target.identity.double()], 1
        )
        number = condition.unique(dim=0, return_inverse=True)[1]
        others = (number[:, None] == number).fill_diagonal_(fill_value=False)
        seen = judged.generated.has_face
        cosines = judged.generated.identity @ judged.generated.identity.T
        cosines = cosines.where(seen[:, None] & seen, 0.0)
        return (cosines * others).sum(dim=1) / others.sum(dim=1)
