"""The frozen latent diffusion model that the nets condition (HiFi-Portrait, Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cached_property
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from portraitlab.support.hashes import weights_fingerprint
from portraitlab.types import Injection, TextFeatures


class Tokenizer(Protocol):
    """The protocol of tokenizers: from prompts to token ids, with the words that are cut off."""

    def __call__(self, prompts: list[str], /) -> Tensor:
        """Return token ids [B, K], padded to one length K."""

    def cut(self, prompt: str, /) -> str:
        """Return the words that are cut off at the end of a prompt; empty if it fits."""


class Backbone(nn.Module):
    """UNet, autoencoder and text encoder of a text-to-image model, with its noise schedule.

    unet, autoencoder, text_encoder and scheduler are diffusers' and transformers' classes; of the
    autoencoder only diffusers' `encode(images).latent_dist.mode()` and `decode(latents).sample`
    are used. Latents are `(mode - latent_shift) * latent_scale`, shift and scale each one number or
    one per channel. precision: precision of the frozen weights; below single precision, products
    are computed in it within `computing`. No weight is trained, but gradients flow through.
    empty_prompt_is_zero: True where the empty prompt's words are zeros.

    Raises ValueError where the scheduler predicts something other than noise or velocity.
    """

    empty_prompt_is_zero: bool = False
    latent_scale: Tensor
    latent_shift: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        autoencoder: nn.Module,
        text_encoder: CLIPTextModel,
        tokenizer: Tokenizer,
        scheduler: DDIMScheduler,
        latent_scale: float | Sequence[float] = 1.0,
        latent_shift: float | Sequence[float] = 0.0,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"The scheduler's prediction_type is {scheduler.config.prediction_type!r}; "
                "the backbone knows epsilon and v_prediction."
            )
        self.unet = unet
        self.autoencoder: Any = autoencoder
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.scheduler = scheduler
        self.precision = precision
        for name, value in (("latent_scale", latent_scale), ("latent_shift", latent_shift)):
            self.register_buffer(
                name, torch.as_tensor(value, dtype=torch.float32).view(1, -1, 1, 1)
            )
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode: a frozen model has no dropout or batch statistics to train."""
        return super().train(False)

    def computing(self) -> AbstractContextManager[Any]:
        """Return a context in which products of half and single precision are computed in half."""
        device = self.latent_scale.device.type
        if self.precision == torch.float32 or device == "meta":  # where nothing is computed
            return nullcontext()
        return torch.autocast(device, self.precision)

    @property
    def latent_channels(self) -> int:
        """Channels c of the latents."""
        return int(self.unet.config.in_channels)

    @property
    def latent_size(self) -> int:
        """Edge of the square latents."""
        return int(self.unet.config.sample_size)

    @cached_property
    def image_size(self) -> int:
        """Edge of the square images in pixels, measured by decoding a small piece of latents."""
        piece = self.latent_scale.new_zeros(1, self.latent_channels, 8, 8)
        with torch.no_grad():
            return self.latent_size * self.decode(piece).shape[-1] // 8

    @property
    def text_dim(self) -> int:
        """Width of the UNet's cross-attention: that of text tokens and of identity tokens."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def timesteps(self) -> int:
        """Number of noise levels."""
        return int(self.scheduler.config.num_train_timesteps)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all weights, so that results of other weights are not reused."""
        return weights_fingerprint(self)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1] to latents [B, c, h, w], without sampling."""
        mode = self.autoencoder.encode(images).latent_dist.mode()
        return (mode - self.latent_shift) * self.latent_scale

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, c, h, w] to images [B, 3, H, W], about in [-1, 1].

        Images are not clamped, so that the identity loss has a gradient everywhere.
        """
        return self.autoencoder.decode(latents / self.latent_scale + self.latent_shift).sample

    def encode_text(self, prompts: list[str]) -> TextFeatures:
        """Encode prompts to text features [B]."""
        tokens = self.tokenizer(prompts).to(self.latent_scale.device)
        with torch.no_grad():
            return TextFeatures(self.text_encoder(input_ids=tokens).last_hidden_state.float())

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Add noise to latents [B, c, h, w] up to the noise levels timesteps [B]."""
        return self.scheduler.add_noise(latents, noise, timesteps)

    def training_target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the UNet's target: the noise (eq. 1), or the velocity for a v-prediction model.

        The velocity is Salimans and Ho's (ICLR 2022), sqrt(a) noise - sqrt(1 - a) latents.
        """
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return self.scheduler.get_velocity(latents, noise, timesteps)

    def clean_estimate(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """Compute the clean latents that a prediction implies (the latents of eq. 7's estimate)."""
        alpha = self.scheduler.alphas_cumprod.to(noisy)[timesteps].view(-1, 1, 1, 1)
        if self.scheduler.config.prediction_type == "epsilon":
            return (noisy - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
        return alpha.sqrt() * noisy - (1 - alpha).sqrt() * prediction

    def with_unet(self, unet: UNet2DConditionModel) -> Backbone:
        """Return a backbone with another UNet of the same architecture; the rest is shared."""
        other = copy(self)
        other._modules = {**self._modules, "unet": unet}
        return other

    def predict(
        self, noisy: Tensor, timesteps: Tensor, text: TextFeatures, injection: Injection
    ) -> Tensor:
        """Run the UNet once: noisy latents [B, c, h, w], timesteps [B], text [B].

        The injection's residuals are added to the skip connections and the middle block. Its
        identity tokens or feature maps are read only by the attentions that a net has adapted. A
        UNet in it runs in place of the backbone's.
        """
        unet = self.unet if injection.unet is None else injection.unet
        sample = noisy
        if injection.features is not None:
            sample = torch.cat([noisy, injection.features], dim=1)
        return unet(
            sample,
            timesteps,
            encoder_hidden_states=text.words,
            added_cond_kwargs=text.added,
            down_block_additional_residuals=injection.down,
            mid_block_additional_residual=injection.mid,
            # diffusers passes the value of this name to every attention, and drops it silently
            # where a processor has no such argument.
            cross_attention_kwargs=(
                None if injection.attention is None else {"ip_hidden_states": injection}
            ),
        ).sample
