"""Descriptors of two views that are matched: of diffusion models, of DINO, and controls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.encoder_features import features_of
from portraitlab.method.matching import cell_centres
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.in_context import InContext
from portraitlab.scoring.matching import NoDescriptors, SampledPair
from portraitlab.support.checks import check_whole
from portraitlab.types import Condition, Injection, TextFeatures
from portraitlab.world.models.dino import SelfSupervisedEncoder
from portraitlab.world.pretrained import load_dino


class Dift:
    """Output of an up block of the frozen UNet on one noisy picture (DIFT, arXiv 2306.03881).

    The UNet reads the sampled pixels as a picture; a whole one is the published case. timestep:
    noise level, 261 as published. block: up block, counted from the deepest. noises: draws of noise
    over which features are averaged, 8 as published.
    """

    trained = False

    def __init__(self, timestep: int = 261, block: int = 1, noises: int = 8) -> None:
        self.timestep = check_whole("timestep", timestep, 0)
        self.block = check_whole("block", block, 0)
        self.noises = check_whole("noises", noises)

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the sampled pixels and of the profile, each picture alone."""
        own = self._features(model.backbone, pair.sampled, generator)
        return own, self._features(model.backbone, pair.profile, generator)

    def _features(self, backbone: Backbone, pictures: Tensor, generator: torch.Generator) -> Tensor:
        latents = backbone.encode(pictures)
        text = backbone.encode_text([""]).expand(len(latents))
        noisy, timesteps = _noisy(backbone, latents, self.timestep, generator, self.noises)
        with output_of(backbone.unet.up_blocks[self.block]) as outputs:
            for each in noisy:
                backbone.predict(each, timesteps, text, Injection())
        return torch.stack(outputs).mean(dim=0)


class MatchingNet:
    """Features of IC-Portrait's branch that reads both pictures side by side (Sec. 3.3).

    The branch is the model's net. timestep: noise level of the two pictures' latents.
    """

    trained = True

    def __init__(self, timestep: int = 261) -> None:
        self.timestep = check_whole("timestep", timestep, 0)

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features of both halves of a pair."""
        backbone, net = model.backbone, model.net
        if not isinstance(net, InContext):
            raise NoDescriptors("the model has no matching net; choose system=ic_portrait")
        latents = torch.cat([backbone.encode(pair.style), backbone.encode(pair.profile)], dim=-1)
        (noisy,), timesteps = _noisy(backbone, latents, self.timestep, generator)
        condition = Condition(
            text=TextFeatures(net.image_prompt(pair.profile)),
            tokens=None,
            drawing=torch.cat([pair.sampled, pair.profile], dim=-1),
        )
        return net.descriptors(features_of(net.controlnet, net.layer), noisy, timesteps, condition)


class DinoDescriptor:
    """Patch tokens of the world's self-supervised vision transformer, 8 px each."""

    trained = False

    @cached_property
    def encoder(self) -> SelfSupervisedEncoder:
        """The encoder, loaded when it is first needed."""
        return load_dino()

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the sampled pixels and of the profile."""
        own, other = (
            self.encoder.to(picture.device)
            .tokens(picture)[:, 1:]
            .mT.unflatten(2, tuple(edge // 8 for edge in picture.shape[-2:]))
            for picture in (pair.sampled, pair.profile)
        )
        return own, other


class RandomPlaces:
    """Random features, whose best matches are random places."""

    trained = False

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw features of the latents' size."""
        shape = len(pair), 16, model.backbone.latent_size, model.backbone.latent_size
        own, other = (torch.randn(shape, generator=generator).to(pair.style) for _ in range(2))
        return own, other


class NoMotion:
    """Cell centres as features, whose best matches are the cells' own places."""

    trained = False

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return (x, y, 1), whose cosine is 1 for the same cell alone."""
        size = model.backbone.latent_size
        centres = functional.pad(cell_centres(size, size, pair.style.device), (0, 1), value=1.0)
        own = centres.movedim(-1, 0).expand(len(pair), -1, -1, -1)
        return own, own


def _noisy(
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
