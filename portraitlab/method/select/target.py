"""Use the target's own shape in the landmarks (HiFi-Portrait, Table 5, row "target")."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.method.select.selection import TARGET, Selection
from portraitlab.types import Candidates


class TargetShape(Selection):
    """Choose the target's own shape, as methods without a 3DMM do."""

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Return TARGET [B] for every sample."""
        return torch.full((len(candidates.mask),), TARGET, dtype=torch.long)
