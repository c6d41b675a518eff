"""Choose by face quality and head angle (HiFi-Portrait, eq. 9; Table 5, row "quality & angle")."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.method.select.angle import angle_of
from portraitlab.method.select.quality import quality_of
from portraitlab.method.select.selection import FaceQuality, Selection, highest
from portraitlab.types import Candidates


class QualityAndAngle(Selection):
    """Choose the reference with the highest S = S_q + angle_weight · S_a (eq. 9).

    quality: the model that scores the references. angle_weight: λ.
    """

    def __init__(self, quality: FaceQuality, angle_weight: float = 0.5) -> None:
        self.quality = quality
        self.angle_weight = angle_weight

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Return indices [B] in 0..N-1. Raises ValueError where the references have no score."""
        score = quality_of(candidates) + self.angle_weight * angle_of(candidates)
        return highest(score, candidates.mask)
