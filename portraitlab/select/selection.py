"""How the reference is chosen whose 3D shape draws the landmarks (Sec. 3.3 and Table 5)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from portraitlab.types import FaceGeometry

TARGET = -1
"""The index that stands for the target itself instead of a reference."""


class Selection(Protocol):
    """Chooses one reference of each sample."""

    def choose(
        self,
        references: FaceGeometry,
        mask: Tensor,
        target: FaceGeometry,
        generator: torch.Generator,
    ) -> Tensor:
        """Index [B] of the chosen reference (or TARGET) of each sample.

        references: geometry of the references [B, N]; mask bool [B, N]: False where a sample has
        fewer; target: geometry of the targets [B]; generator: on the CPU.
        """
        ...
