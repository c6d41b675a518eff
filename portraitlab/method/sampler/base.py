"""The base class of samplers: classifier-free guidance around one of diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.model import PortraitModel
from portraitlab.support.checks import check_choice, check_finite, check_number, check_whole
from portraitlab.types import Batch, Condition

Drops = Literal["everything", "prompt"]
After = Callable[[Tensor, Tensor | None], Tensor]
"""A function from latents [B, c, h, w] and the timestep of their noise level, None for clean ones,
to other latents of this level."""


class Sampler:
    """Samples images with Ho and Salimans' guidance (2022) and a seed per image.

    steps: calls of the scheduler, each at one noise level. guidance: guidance scale; 1 is without
    guidance, at half the cost. guidance_drops: conditions that the unconditional prediction does
    not get. "everything": prompt, identity and control image, so that it is the backbone's with the
    empty prompt; for an adapter this equals IP-Adapter's zeroed tokens. "prompt": the prompt alone.
    negative_prompt: the unconditional prediction's prompt, in place of the empty one.

    A sampler implements `scheduler` and `step`. Raises ValueError for numbers out of range.
    """

    def __init__(
        self,
        steps: int,
        guidance: float,
        guidance_drops: Drops = "everything",
        negative_prompt: str = "",
    ) -> None:
        check_number("sampler.guidance", guidance, least=0, hint="; 1 is none")
        check_choice("sampler.guidance_drops", guidance_drops, get_args(Drops))
        self.steps = check_whole("sampler.steps", steps)
        self.guidance = guidance
        self.guidance_drops = guidance_drops
        self.negative_prompt = negative_prompt

    def ready(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Return a context in which the backbone has this sampler's weights: none by default."""
        return nullcontext()

    def scheduler(self, backbone: Backbone) -> Any:
        """Build a scheduler of diffusers with its timesteps set.

        It must not be the backbone's: stepping changes its state, and two samplers may share one.
        """
        raise NotImplementedError

    def step(
        self,
        scheduler: Any,
        prediction: Tensor,
        timestep: Tensor,
        latents: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Return the latents [B, c, h, w] at the next noise level.

        generators: B CPU generators for the noise that the step adds.
        """
        raise NotImplementedError

    @property
    def unet_calls(self) -> int:
        """Number of UNet calls for one image."""
        return self.steps * (1 if self.guidance == 1 else 2)

    @torch.no_grad()
    def sample(self, model: PortraitModel, batch: Batch, seeds: Sequence[int]) -> Tensor:
        """Sample images [B, 3, H, W] in [-1, 1] for a batch's conditions.

        Only the shape of batch.latents is read. All noise of image i is drawn from seeds[i] on the
        CPU. So, up to rounding, an image depends neither on the others of its batch nor on the
        device, and rows of a table start from the same noise. Raises ValueError for an image that
        is not finite.
        """
        assert len(seeds) == len(batch), "one seed for each image"
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = draw_noise(batch.latents, generators)
        with model.backbone.computing():
            batch = model.transform.lay_out(model.with_drawing(batch))
            if (beside := batch.latents[..., noise.shape[-1] :]).numel():
                noise = torch.cat([noise, draw_noise(beside, generators)], dim=-1)
            condition = model.condition(batch)
        latents = self.trajectory(model, condition, noise, generators)
        drawn = model.transform.picture(latents)
        images: Tensor = model.backbone.decode(drawn).float()
        check_finite("a drawn picture (by damaged weights, or a LoRA of another base)", images)
        return images.clamp(-1, 1)

    def trajectory(
        self,
        model: PortraitModel,
        condition: Condition,
        noise: Tensor,
        generators: Sequence[torch.Generator] = (),
        grad_last: int = 0,
        start: int = 0,
        after: After | None = None,
    ) -> Tensor:
        """Denoise pure noise [B, c, h, w] to latents under a condition, which is computed once.

        start: number of the noise level at which to start, 0 for pure noise; `noise` are then
        latents of this level. after: changes the latents after each step. generators: see `step`; a
        sampler without noise of its own needs none. grad_last: number of the last steps through
        which a gradient flows. Each is recomputed in the backward pass, so that memory for one is
        enough.
        """
        scheduler = self.scheduler(model.backbone)
        predict = self.predictor(model, condition)
        latents = noise if start else noise * scheduler.init_noise_sigma
        following = [*scheduler.timesteps[1:], None]
        for number, timestep in enumerate(scheduler.timesteps[start:], start):
            timesteps = timestep.expand(len(latents)).to(latents.device)
            if len(scheduler.timesteps) - number > grad_last:
                with torch.no_grad():
                    prediction = predict(latents, timesteps)
                    latents = self.step(scheduler, prediction, timestep, latents, generators)
            else:
                prediction = checkpoint(predict, latents, timesteps, use_reentrant=False)
                latents = self.step(scheduler, prediction, timestep, latents, generators)
            if after is not None:
                latents = after(latents, following[number])
        return latents

    def predictor(
        self, model: PortraitModel, condition: Condition
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function from latents [B, c, h, w] and timesteps [B] to the guided prediction.

        It calls the UNet with the condition, and then without it where there is guidance.
        """
        guided = self.guidance != 1
        unconditional = self.unconditional(model, condition) if guided else condition

        def predict(latents: Tensor, timesteps: Tensor) -> Tensor:
            with model.backbone.computing():
                prediction = model.predict(latents, timesteps, condition).to(latents.dtype)
                if not guided:
                    return prediction
                without = model.predict(latents, timesteps, unconditional).to(latents.dtype)
            return without + self.guidance * (prediction - without)

        return predict

    def unconditional(self, model: PortraitModel, condition: Condition) -> Condition:
        """Return the condition without the parts that guidance drops."""
        empty = model.net.read_empty_prompt(model.backbone, self.negative_prompt)
        empty = empty.expand(len(condition.text))
        if self.guidance_drops == "prompt":
            return replace(condition, text=empty)
        return Condition(empty, tokens=None, drawing=None)


def draw_noise(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw noise of the shape of latents [B, c, h, w], sample i from generator i on the CPU."""
    shape = like.shape[1:]
    noise = [torch.randn(shape, generator=generator) for generator in generators]
    return torch.stack(noise).to(like)
