"""How the reference is chosen whose 3D shape draws the landmarks (Sec. 3.3 and Table 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from portraitlab.faces.alignment import SeesCrops
from portraitlab.types import Candidates

TARGET = -1
"""The index that stands for the target itself instead of a reference."""


class FaceQuality(SeesCrops, Protocol):
    """S_q of eq. 9: higher where a face is clear and nothing is before it (plays ModelScopeFQA)."""

    def __call__(self, crops: Tensor) -> Tensor:
        """Scores [B] in [0, 1] of aligned crops [B, 3, c, c] in [-1, 1], c = crop_size."""
        ...


class Selection(ABC):
    """Chooses one reference of each sample.

    quality: the model whose scores it wants as `Candidates.quality`; None where it wants none.
    """

    quality: FaceQuality | None = None

    @abstractmethod
    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Index [B] of the chosen reference (or TARGET) of each sample; generator: on the CPU."""


def highest(scores: Tensor, mask: Tensor) -> Tensor:
    """Index [B] of the highest of scores [B, N] where mask [B, N]; of equal ones the first."""
    return scores.masked_fill(~mask, -torch.inf).argmax(dim=1)
