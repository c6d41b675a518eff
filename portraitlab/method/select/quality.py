"""Choose the reference of the best face quality (HiFi-Portrait, Table 5, row "quality")."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.method.select.selection import FaceQuality, Selection, highest
from portraitlab.types import Candidates


class BestQuality(Selection):
    """Choose the reference with the highest S_q (eq. 9).

    quality: the model that scores the references.
    """

    def __init__(self, quality: FaceQuality) -> None:
        self.quality = quality

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Return indices [B] in 0..N-1. Raises ValueError where the references have no score."""
        return highest(quality_of(candidates), candidates.mask)


def quality_of(candidates: Candidates) -> Tensor:
    """Return S_q [B, N]. Raises ValueError where the references have no score."""
    if candidates.quality is None:
        raise ValueError(
            "the references have no face quality; give the selection a model that scores them "
            "as select.quality, or choose select=angle"
        )
    return candidates.quality
