"""Choose a reference at random (HiFi-Portrait, Table 5, row "random"; Sec. 3.3 in training)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.method.select.selection import Selection
from portraitlab.types import Candidates


class RandomReference(Selection):
    """Choose one of the unmasked references uniformly at random."""

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Return indices [B] in 0..N-1, never of a masked reference."""
        mask = candidates.mask
        return torch.rand(mask.shape, generator=generator).masked_fill(~mask, -1).argmax(dim=1)
