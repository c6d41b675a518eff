"""Features of clean pictures by a UNet that is tuned to its own of noisy ones (CleanDIFT)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.method.model import PortraitModel
from portraitlab.scoring.descriptors.dift import output_of
from portraitlab.scoring.matching import SampledPair
from portraitlab.support.checks import check_whole
from portraitlab.types import Injection
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES


class CleanDift:
    """Output of an up block of a tuned UNet on one picture without noise (arXiv 2412.03439).

    A copy of the UNet reads clean latents at timestep 0. A head for the block maps its output to
    the frozen UNet's on noisy latents at a random timestep, which the head is given; the loss is
    the negative cosine. The head is then left out. The published tuning aligns several blocks at
    once. A backbone is tuned once, on rendered portraits of the training people.

    steps, batch_size and learning_rate: settings of the tuning. block: see Dift.
    """

    def __init__(
        self, steps: int = 400, batch_size: int = 8, learning_rate: float = 1e-4, block: int = 1
    ) -> None:
        self.steps = check_whole("steps", steps)
        self.batch_size = check_whole("batch_size", batch_size)
        self.learning_rate = learning_rate
        self.block = check_whole("block", block, 0)
        self._tuned: tuple[str, UNet2DConditionModel] | None = None

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the style picture and of the profile, each picture alone."""
        backbone = model.backbone
        if self._tuned is None or self._tuned[0] != backbone.fingerprint:
            with torch.enable_grad():
                self._tuned = backbone.fingerprint, self.tune(backbone)
        clean = backbone.with_unet(self._tuned[1])
        own, other = (
            self._output(clean, backbone.encode(picture), torch.zeros(len(pair), dtype=torch.long))
            for picture in (pair.style, pair.profile)
        )
        return own, other

    def _output(self, backbone: Backbone, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Return the block's output for latents [B, c, h, w] and the empty prompt."""
        text = backbone.encode_text([""]).expand(len(latents))
        with output_of(backbone.unet.up_blocks[self.block]) as outputs:
            backbone.predict(latents, timesteps.to(latents.device), text, Injection())
        return outputs[0]

    def tune(self, backbone: Backbone) -> UNet2DConditionModel:
        """Return a copy of the UNet that was tuned to clean latents."""
        unet = deepcopy(backbone.unet).requires_grad_(True)
        clean = backbone.with_unet(unet)
        device = backbone.latent_scale.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = _Head(unet.config.block_out_channels[-1 - self.block]).to(device)
        trained = [*unet.parameters(), *head.parameters()]
        optimiser = torch.optim.AdamW(trained, self.learning_rate, weight_decay=0.0)
        generator = torch.Generator().manual_seed(0)
        for step in range(self.steps):
            # Render portraits, and add noise of random timesteps.
            seeds = IDENTITIES["train"][step * self.batch_size : (step + 1) * self.batch_size]
            latents = _portraits(backbone, seeds)
            timesteps = torch.randint(backbone.timesteps, (len(latents),), generator=generator)
            noise = torch.randn(latents.shape, generator=generator).to(device)
            with torch.no_grad():
                noisy = backbone.add_noise(latents, noise, timesteps.to(device))
                wanted = self._output(backbone, noisy, timesteps)

            # Step towards the frozen UNet's features.
            given = head(self._output(clean, latents, torch.zeros_like(timesteps)), timesteps)
            loss = -functional.cosine_similarity(given, wanted, dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return unet.requires_grad_(False)


class _Head(nn.Module):
    """A residual map of features [B, C, h, w] that depends on the timestep; it starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sinusoids = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.level = TimestepEmbedding(64, channels)
        self.enter = nn.Conv2d(channels, channels, 1)
        self.leave = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.zeros_(self.leave.weight)

    def forward(self, features: Tensor, timesteps: Tensor) -> Tensor:
        level = self.level(self.sinusoids(timesteps.to(features.device)))
        hidden = functional.silu(self.enter(features) + level[..., None, None])
        return features + self.leave(hidden)


def _portraits(backbone: Backbone, seeds: Sequence[int]) -> Tensor:
    """Render a portrait of each identity, and encode them to latents."""
    size = backbone.image_size
    images = torch.cat([photo_tensor(render_photo(seed, 0, size).image) for seed in seeds])
    with torch.no_grad():
        return backbone.encode(images.to(backbone.latent_scale.device))
