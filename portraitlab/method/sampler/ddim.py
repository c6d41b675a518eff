"""DDIM with classifier-free guidance and a seed per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal, get_args

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.model import PortraitModel
from portraitlab.types import Batch, Condition

Drops = Literal["everything", "prompt"]


class DDIM:
    """Song et al.'s sampler (ICLR 2021) with Ho and Salimans' guidance (2022).

    steps: noise levels, spaced so that the first is pure noise (Lin et al., WACV 2024). guidance:
    guidance scale; 1 is without guidance, at half the cost. guidance_drops: conditions that the
    unconditional prediction does not get. "everything": prompt, identity and control image, so that
    it is the backbone's with the empty prompt; for an adapter this equals IP-Adapter's zeroed
    tokens. "prompt": the prompt alone. eta: 0 is deterministic, 1 adds the noise of DDPM.
    negative_prompt: the unconditional prediction's prompt, in place of the empty one.

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
        if steps < 1:
            raise ValueError(f"sampler.steps is {steps}; it must be 1 or more.")
        if not 0 <= guidance < math.inf:  # also False for NaN, which would draw black images
            raise ValueError(f"sampler.guidance is {guidance}; it must be 0 or more (1: none).")
        if not 0 <= eta <= 1:
            raise ValueError(f"sampler.eta is {eta}; it must be between 0 and 1.")
        if guidance_drops not in get_args(Drops):
            raise ValueError(
                f"sampler.guidance_drops is {guidance_drops!r}; choose one of {get_args(Drops)}."
            )
        self.steps = steps
        self.guidance = guidance
        self.eta = eta
        self.guidance_drops = guidance_drops
        self.negative_prompt = negative_prompt

    def ready(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Return a context in which the backbone has this sampler's weights: none for DDIM."""
        return nullcontext()

    @torch.no_grad()
    def sample(self, model: PortraitModel, batch: Batch, seeds: Sequence[int]) -> Tensor:
        """Sample images [B, 3, H, W] in [-1, 1] for a batch's conditions.

        Only the shape of batch.latents is read. All noise of image i is drawn from seeds[i] on the
        CPU. So, up to rounding, an image depends neither on the others of its batch nor on the
        device, and rows of a table start from the same noise.
        """
        assert len(seeds) == len(batch), "one seed for each image"
        backbone = model.backbone
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]

        def draw_noise() -> Tensor:
            shape = batch.latents.shape[1:]
            noise = [torch.randn(shape, generator=generator) for generator in generators]
            return torch.stack(noise).to(batch.latents)

        # Copy the scheduler: stepping changes its state, and two samplers may share a backbone.
        scheduler = DDIMScheduler.from_config(
            backbone.scheduler.config, timestep_spacing="trailing", clip_sample=False
        )
        scheduler.set_timesteps(self.steps)
        # Compute the conditions once for all steps.
        with backbone.computing():
            condition = model.condition(batch)
        unconditional = self.unconditional(model, condition)

        def predict(latents: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
            with backbone.computing():
                return model.predict(latents, timesteps, condition).to(latents.dtype)

        # Denoise step by step.
        latents = draw_noise() * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            timesteps = timestep.expand(len(batch)).to(latents.device)
            prediction = predict(latents, timesteps, condition)
            if self.guidance != 1:
                without = predict(latents, timesteps, unconditional)
                prediction = without + self.guidance * (prediction - without)
            latents = scheduler.step(
                prediction,
                timestep,
                latents,
                eta=self.eta,
                variance_noise=draw_noise() if self.eta > 0 else None,
            ).prev_sample
        return backbone.decode(latents).float().clamp(-1, 1)

    def unconditional(self, model: PortraitModel, condition: Condition) -> Condition:
        """Return the condition without the parts that guidance drops."""
        empty = model.backbone.encode_text([self.negative_prompt]).expand(len(condition.text))
        if self.guidance_drops == "prompt":
            return replace(condition, text=empty)
        return Condition(empty, tokens=None, drawing=None)
