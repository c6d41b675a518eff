"""The base class of the objective's terms, and their input: one denoising of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.model import PortraitModel
from portraitlab.support.ranks import ALONE, Split
from portraitlab.types import Batch, Condition


@dataclass(frozen=True)
class Denoising:
    """A batch noised to timesteps [B], with the model's prediction.

    condition: the model's condition of the batch, with a gradient to its fusion. all_timesteps
    [B · processes]: timesteps of the whole batch over all processes. noise, noisy and prediction
    are [B, c, h, w]. progress: completed fraction of the training, in [0, 1]. step: number of
    optimiser steps done. generator: CPU generator for further random numbers of a term, in the same
    state in all processes. split: this process's samples of the whole batch. attended: that of the
    net's Injection.
    """

    model: PortraitModel
    batch: Batch
    condition: Condition
    all_timesteps: Tensor
    noise: Tensor
    noisy: Tensor
    prediction: Tensor
    progress: float
    step: int
    generator: torch.Generator
    split: Split = ALONE
    attended: Tensor | None = None

    @property
    def backbone(self) -> Backbone:
        """The frozen model that noise and prediction belong to."""
        return self.model.backbone

    @property
    def timesteps(self) -> Tensor:
        """Noise levels [B] of these samples."""
        return self.split.own(self.all_timesteps)


class Term(nn.Module):
    """One named loss; weight is its factor in the sum.

    A term whose losses share a computation returns several; part_weights are their factors, by the
    same names.

    Its mean over the processes of a training must be the loss of the whole batch, since their
    gradients are averaged. In a step, it must act in all processes or in none.

    wants: optional fields of Batch that the term reads, such as "face_mask"; batches of the
    training have them.
    """

    wants: ClassVar[tuple[str, ...]] = ()
    part_weights: Mapping[str, float] = {}

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, denoising: Denoising) -> Tensor | dict[str, Tensor] | None:
        """Compute the unweighted loss, a scalar, or several by name.

        None in a step in which the term does not act.
        """
        raise NotImplementedError
