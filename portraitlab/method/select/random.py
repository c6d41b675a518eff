"""Any reference, drawn by chance (HiFi-Portrait, Table 5, row "random"; Sec. 3.3 in training)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.method.select.selection import Selection
from portraitlab.types import Candidates


class RandomReference(Selection):
    """Draws one of the references that are there, all with equal chance."""

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Index [B] in 0..N-1, never a masked reference's."""
        mask = candidates.mask
        return torch.rand(mask.shape, generator=generator).masked_fill(~mask, -1).argmax(dim=1)
