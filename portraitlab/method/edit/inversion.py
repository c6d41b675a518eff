"""DDIM inversion: the noisy latents from which DDIM's steps lead back to given latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""A function from noisy latents [F, c, h, w] and timesteps [F] to the UNet's prediction."""


def invert(scheduler: Any, predict: Predict, latents: Tensor, repeats: int = 1) -> list[Tensor]:
    """Return the clean latents, and those at each noise level, from the lowest to the highest.

    Each level's latents solve DDIM's step (Song et al., ICLR 2021, eq. 12) to the level below,
    given the prediction. The prediction is of the latents that are sought, so it is approximated
    by that of the level below (Sec. 4.3), and improved by `repeats` - 1 further calls of the UNet
    (Pan et al., ICCV 2023, fixed-point iteration).

    scheduler: a DDIMScheduler with its timesteps set, whose own noise levels are inverted.
    diffusers' DDIMInverseScheduler has others where the number of steps is no divisor, and for
    velocities steps forward instead of solving the step back.
    """
    path = [latents]
    for timestep in scheduler.timesteps.flip(0):
        noisy, timesteps = path[-1], timestep.expand(len(latents)).to(latents.device)
        for _ in range(repeats):
            noisy = _before_step(scheduler, predict(noisy, timesteps), int(timestep), path[-1])
        path.append(noisy)
    return path


def _before_step(scheduler: Any, prediction: Tensor, timestep: int, latents: Tensor) -> Tensor:
    """Solve eq. 12 for the latents at a timestep, given those after the step."""
    # a and b: the share of the clean latents and of the noise, at both levels.
    alphas, settings = scheduler.alphas_cumprod, scheduler.config
    following = timestep - settings.num_train_timesteps // scheduler.num_inference_steps
    alpha = alphas[timestep]
    alpha_next = alphas[following] if following >= 0 else scheduler.final_alpha_cumprod
    (a, b), (a_next, b_next) = (
        (float(level.sqrt()), float((1 - level).sqrt())) for level in (alpha, alpha_next)
    )
    if settings.prediction_type == "epsilon":
        return a * (latents - b_next * prediction) / a_next + b * prediction
    across, along = a_next * b - b_next * a, a_next * a + b_next * b
    return (latents + across * prediction) / along
