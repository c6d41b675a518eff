"""DDIM with classifier-free guidance and a seed per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.sampler.base import Drops, Sampler, draw_noise
from portraitlab.support.checks import check_number


class DDIM(Sampler):
    """Song et al.'s sampler (ICLR 2021).

    steps: noise levels, spaced so that the first is pure noise (Lin et al., WACV 2024). eta: 0 is
    deterministic, 1 adds the noise of DDPM. The other settings are Sampler's.

    Raises ValueError for numbers out of range.
    """

    def __init__(
        self,
        steps: int = 20,
        guidance: float = 1.6,
        eta: float = 0.0,
        guidance_drops: Drops = "everything",
        negative_prompt: str = "",
    ) -> None:
        super().__init__(steps, guidance, guidance_drops, negative_prompt)
        check_number("sampler.eta", eta, least=0, most=1)
        self.eta = eta

    def scheduler(self, backbone: Backbone) -> DDIMScheduler:
        """Build a DDIMScheduler of the backbone's schedule."""
        scheduler = DDIMScheduler.from_config(
            backbone.scheduler.config, timestep_spacing="trailing", clip_sample=False
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
        """Return the latents at the next noise level (eq. 12)."""
        noise = draw_noise(latents, generators) if self.eta > 0 else None
        return scheduler.step(
            prediction, timestep, latents, eta=self.eta, variance_noise=noise
        ).prev_sample
