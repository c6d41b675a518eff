"""The target's own shape in the landmarks (HiFi-Portrait, Table 5, row "target")."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.select.selection import TARGET
from portraitlab.types import FaceGeometry


class TargetShape:
    """Takes shape, expression and pose from the target, as methods without a 3DMM must."""

    def choose(
        self,
        references: FaceGeometry,
        mask: Tensor,
        target: FaceGeometry,
        generator: torch.Generator,
    ) -> Tensor:
        """TARGET [B] for every sample."""
        return torch.full((len(mask),), TARGET, dtype=torch.long)
