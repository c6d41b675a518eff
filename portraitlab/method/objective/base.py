"""What a term of the objective sees: one noising of one batch, and the model's answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.support.ranks import ALONE, Split
from portraitlab.types import Batch


@dataclass(frozen=True)
class Denoising:
    """A batch noised to timesteps [B] and what the model made of it.

    all_timesteps: [B · processes], of the whole batch that the processes of a training share.
    noise, noisy and prediction are [B, c, h, w]. progress: the share of the training that is done,
    in [0, 1]. step: number of optimiser steps done. split: which samples of the whole these are.
    """

    backbone: Backbone
    batch: Batch
    all_timesteps: Tensor
    noise: Tensor
    noisy: Tensor
    prediction: Tensor
    progress: float
    step: int
    split: Split = ALONE

    @property
    def timesteps(self) -> Tensor:
        """The noise levels [B] of these samples."""
        return self.split.own(self.all_timesteps)


class Term(nn.Module):
    """One named loss; weight is its share in the sum.

    Its mean over the processes of a training is to be the loss of the whole batch, since that is
    how their gradients are joined. In a step, it acts in all of them or in none.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, denoising: Denoising) -> Tensor | None:
        """The unweighted loss, a scalar; None in a step in which the term does not act."""
        raise NotImplementedError
