"""Features of the frozen UNet on a noisy picture (DIFT)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.model import PortraitModel
from portraitlab.scoring.matching import SampledPair
from portraitlab.support.checks import check_whole
from portraitlab.types import Injection


class Dift:
    """Output of an up block of the frozen UNet on one noisy picture (DIFT, arXiv 2306.03881).

    timestep: noise level, 261 as published. block: up block, counted from the deepest. noises:
    draws of noise over which features are averaged, 8 as published.
    """

    def __init__(self, timestep: int = 261, block: int = 1, noises: int = 8) -> None:
        self.timestep = check_whole("timestep", timestep, 0)
        self.block = check_whole("block", block, 0)
        self.noises = check_whole("noises", noises)

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the style picture and of the profile, each picture alone."""
        own = self._features(model.backbone, pair.style, generator)
        return own, self._features(model.backbone, pair.profile, generator)

    def _features(self, backbone: Backbone, pictures: Tensor, generator: torch.Generator) -> Tensor:
        latents = backbone.encode(pictures)
        text = backbone.encode_text([""]).expand(len(latents))
        noisy, timesteps = noisy_latents(backbone, latents, self.timestep, generator, self.noises)
        with output_of(backbone.unet.up_blocks[self.block]) as outputs:
            for each in noisy:
                backbone.predict(each, timesteps, text, Injection())
        return torch.stack(outputs).mean(dim=0)


def noisy_latents(
    backbone: Backbone,
    latents: Tensor,
    timestep: int,
    generator: torch.Generator,
    draws: int = 1,
) -> tuple[list[Tensor], Tensor]:
    """Add noise to latents [B, c, h, w] as often as wanted; return them and timesteps [B]."""
    timesteps = torch.full((len(latents),), timestep, device=latents.device)
    noises = (torch.randn(latents.shape, generator=generator).to(latents) for _ in range(draws))
    return [backbone.add_noise(latents, noise, timesteps) for noise in noises], timesteps


@contextmanager
def output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of a module's calls."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
