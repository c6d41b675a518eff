"""DPM++ SDE, FaceSnap's sampler (Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DPMSolverSinglestepScheduler
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.sampler.base import Drops, Sampler

_LEAST_SNR = -5.1
"""Least half log signal-to-noise ratio of a noise level, as the scheduler's documentation advises
for cosine schedules: the levels beyond are pure noise, for which the solver divides by zero."""


class DPMppSDE(Sampler):
    """The second-order SDE solver of Lu et al. (DPM-Solver++, 2022) in its single-step form.

    A pair of steps is one of second order, so that 8 steps are 8 calls of the UNet, or 16 with
    guidance. Programs that call another form of it "DPM++ SDE" call the UNet twice a step; the
    paper does not say which it timed. The settings are Sampler's.

    Raises ValueError for numbers out of range.
    """

    def __init__(
        self,
        steps: int = 8,
        guidance: float = 2.0,
        guidance_drops: Drops = "everything",
        negative_prompt: str = "",
    ) -> None:
        super().__init__(steps, guidance, guidance_drops, negative_prompt)

    def scheduler(self, backbone: Backbone) -> DPMSolverSinglestepScheduler:
        """Build the solver for the backbone's noise levels."""
        levels = backbone.scheduler
        scheduler = DPMSolverSinglestepScheduler(
            num_train_timesteps=backbone.timesteps,
            trained_betas=levels.betas.numpy(),
            prediction_type=levels.config.prediction_type,
            algorithm_type="sde-dpmsolver++",
            lower_order_final=True,  # an even number of steps ends with one of first order
            lambda_min_clipped=_LEAST_SNR,
        )
        scheduler.set_timesteps(self.steps)
        return scheduler

    def step(
        self,
        scheduler: Any,
        prediction: Tensor,
        timestep: Tensor,
        latents: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Return the latents at the next noise level, with noise from the generators."""
        return scheduler.step(prediction, timestep, latents, generator=list(generators)).prev_sample
