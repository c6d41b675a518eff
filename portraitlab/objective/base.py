"""What a term of the objective sees: one noising of one batch, and the model's answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from portraitlab.backbone.diffusion import Backbone
from portraitlab.types import Batch


@dataclass(frozen=True)
class Denoising:
    """A batch noised to timesteps [B] and what the model made of it.

    noise, noisy and prediction are [B, c, h, w]. progress: the share of the training that is done,
    in [0, 1]. step: number of optimiser steps done.
    """

    backbone: Backbone
    batch: Batch
    timesteps: Tensor
    noise: Tensor
    noisy: Tensor
    prediction: Tensor
    progress: float
    step: int


class Term(nn.Module):
    """One named loss; weight is its share in the sum."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, denoising: Denoising) -> Tensor | None:
        """The unweighted loss, a scalar; None in a step in which the term does not act."""
        raise NotImplementedError
