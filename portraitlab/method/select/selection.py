"""The base class of selections of the reference whose shape is drawn (Sec. 3.3 and Table 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from portraitlab.faces.alignment import SeesCrops
from portraitlab.types import Candidates

TARGET = -1
"""The index of the target itself, in place of a reference's."""


class FaceQuality(SeesCrops, Protocol):
    """S_q of eq. 9, higher for a clear, unoccluded face (in place of ModelScopeFQA)."""

    def __call__(self, crops: Tensor) -> Tensor:
        """Score [B] in [0, 1] aligned crops [B, 3, c, c] in [-1, 1], c = crop_size."""
        ...


class Selection(ABC):
    """A rule that chooses one reference of each sample.

    quality: the model whose scores it reads in `Candidates.quality`; None where it reads none.
    """

    quality: FaceQuality | None = None

    @abstractmethod
    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Choose a reference (or TARGET) of each sample: indices [B]; generator is on the CPU."""


def highest(scores: Tensor, mask: Tensor) -> Tensor:
    """Return indices [B] of the highest of scores [B, N] where mask [B, N]; the first of equals."""
    return scores.masked_fill(~mask, -torch.inf).argmax(dim=1)
