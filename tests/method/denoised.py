"""The input of the objective's terms: a batch denoised exactly, nets after their first steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from portraitlab.method.model import PortraitModel
from portraitlab.method.objective.base import Denoising
from portraitlab.support.ranks import Split
from portraitlab.types import Batch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def denoising(
    model: PortraitModel,
    batch: Batch,
    timesteps: Sequence[int] = (10, 500, 990),
    progress: float = 1.0,
    step: int = 0,
    noise: Tensor | None = None,
) -> Denoising:
    """A denoising whose prediction is the target."""
    levels = torch.tensor(timesteps)
    noise = torch.randn(batch.latents.shape, generator=seeded()) if noise is None else noise
    noisy = model.backbone.add_noise(batch.latents, noise, levels)
    prediction = model.backbone.training_target(batch.latents, noise, levels)
    prediction = prediction.clone().requires_grad_(True)
    return Denoising(
        model, batch, model.condition(batch), levels, noise, noisy, prediction, progress, step,
        seeded(),
    )  # fmt: skip


def shared(whole: Denoising, processes: int) -> list[Denoising]:
    """The parts of a denoising in the processes that share its batch."""
    parts = []
    for rank in range(processes):
        split = Split(rank, processes)
        own = split.own(torch.arange(len(whole.batch)))
        parts.append(
            replace(
                whole,
                batch=whole.batch[own],
                condition=whole.condition[own],
                attended=None if whole.attended is None else whole.attended[own],
                generator=seeded(),
                split=split,
            )
        )
    return parts


def opened(model: PortraitModel) -> PortraitModel:
    """The model after its first steps: no weight of the net is zero any more."""
    for parameter in model.trained_parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2, generator=seeded(3))
    return model
