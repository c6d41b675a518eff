"""A trained copy of the UNet's encoder, added to the UNet (Zhang et al., ControlNet, 2023)."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal, get_args

import torch
from diffusers import ControlNetModel
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.attention import (
    AddedCrossAttention,
    BranchInput,
    MaskedCrossAttention,
)
from portraitlab.method.net.base import Net
from portraitlab.method.net.noise_gate import NoiseGate
from portraitlab.method.net.stock import as_stock, check_fit, load_alike, load_from_stock
from portraitlab.support.checks import check_choice
from portraitlab.types import Condition, Injection

Reads = Literal["text", "tokens", "both", "added"]
"""Input of a branch's cross-attention.

both: one attention to the prompt's features and the identity tokens behind them. added: one
attention to each, whose outputs are added (FPGA, eq. 1).
"""
WayIn = Literal["pixels", "latents"]
"""Form in which a branch reads the control image."""

_STAGES = (16, 32, 96, 256)
"""Channels of the embedding of pixels, as published."""


class ControlBranch(Net):
    """A trained copy of the UNet's encoder whose outputs are added to the frozen UNet.

    Zero convolutions at the outputs make it change nothing before the first step. Without identity
    tokens in the condition it reads the prompt, whatever `reads`; masked tokens have no influence,
    and tokens with regions none on the cross-attention outside of theirs.

    way_in, where there is control: "pixels" adds the control image, in [0, 1], to the features of
    the noisy latents through the published convolutions, the last of which starts at zero.
    "latents" reads the control image's latents minus those of an empty drawing, since the latents
    of black are far from zero everywhere and would dominate the drawing's.
    reads_noise, of latents: True adds them to the features of the noisy latents through one
    convolution that starts at zero; False reads them in place of the noisy latents, so that the
    queries of cross-attention depend on the control image alone. Without a control image the noisy
    latents are read in any case.

    noise_gate: power of the NoiseGate that multiplies all residuals; 0 multiplies by 1, in single
    precision, and None leaves the residuals as they are.
    start: a ControlNet trained with this UNet, which is copied instead of the UNet's encoder. It
    may have cross-attention at more resolutions, and changes the output from the first step.

    Raises ValueError for an unknown reads or way_in, for pixels in place of the noisy latents, for
    a negative noise_gate, and for a start that does not fit the UNet or, with pixels, has no
    embedding of them.
    """

    empty_drawing: Tensor
    stock_part = "controlnet"

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        reads: Reads,
        way_in: WayIn,
        reads_noise: bool = True,
        noise_gate: float | None = 0.0,
        start: ControlNetModel | None = None,
    ) -> None:
        pixels = control and way_in == "pixels"
        super().__init__(control, identity=reads != "text", pixels=pixels)
        _check(reads, way_in, reads_noise or not pixels)
        if start is not None:
            remedy = "net.start=null to start from a copy of the UNet's encoder"
            check_fit(start, backbone, "net.start", remedy)
        self.reads = reads
        self.reads_noise = reads_noise
        self.gate = None if noise_gate is None else NoiseGate(backbone, noise_gate)
        size = backbone.image_size
        self.image_size = size

        # Encode an empty drawing, which is subtracted from the control image's latents.
        empty = None
        if control and not pixels:
            with torch.no_grad():
                black = -torch.ones(1, 3, size, size, device=backbone.latent_scale.device)
                empty = backbone.encode(black)
        # Not saved with a run, since it follows from the backbone.
        self.register_buffer("empty_drawing", empty, persistent=False)

        # Copy the encoder.
        stages = pixel_stages(backbone) if pixels else (1, 1)  # built small, and replaced
        self.controlnet = (
            ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=stages)
            if start is None
            else deepcopy(start).requires_grad_(True)
        )
        if pixels:
            _check_embeds_pixels(self.controlnet)
        else:
            self.controlnet.controlnet_cond_embedding = (
                _zero_convolution(backbone.latent_channels, self.controlnet.conv_in.out_channels)
                if control and reads_noise
                else nn.Identity()
            )

        # Attend with the mask of identity tokens; otherwise with the backbone's processor.
        own = next(iter(backbone.unet.attn_processors.values()))
        reading = AddedCrossAttention() if reads == "added" else MaskedCrossAttention()
        self.controlnet.set_attn_processor(
            {
                name: reading if self.identity and name.endswith("attn2.processor") else own
                for name in self.controlnet.attn_processors
            }
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Compute residuals for the UNet's skip connections and middle."""
        # Select the inputs of the branch.
        tokens = condition.tokens if self.identity else None
        drawing = condition.drawing if self.control else None
        if tokens is None and drawing is None:
            return Injection()
        read, beside = self._images(noisy, drawing)
        words = condition.text.words
        if tokens is not None and self.reads == "both":
            tokens = tokens.after(words)
        if tokens is not None and self.reads != "added":
            words = tokens.tokens

        # Compute the residuals, weighted by the noise gate.
        given = None if tokens is None else BranchInput(tokens)
        down, mid = self.controlnet(
            read,
            timesteps,
            encoder_hidden_states=words,
            added_cond_kwargs=condition.text.added,
            controlnet_cond=beside,
            cross_attention_kwargs=None if given is None else {"ip_hidden_states": given},
            return_dict=False,
        )
        attended = None if given is None else given.attended[0]
        if self.gate is None:
            return Injection(down=tuple(down), mid=mid, attended=attended)
        gate = self.gate(timesteps).view(-1, 1, 1, 1)
        gated = tuple(gate * residual for residual in down)
        return Injection(down=gated, mid=gate * mid, attended=attended)

    def _images(self, noisy: Tensor, drawing: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the latents that are read, and what the embedding adds to their features.

        A branch built for control that is given no drawing reads the noisy latents and, where it
        adds the drawing to them, an empty one.
        """
        if self.pixels:
            if drawing is None:
                wide = self.image_size * noisy.shape[-1] // noisy.shape[-2]
                return noisy, noisy.new_zeros(len(noisy), 3, self.image_size, wide)
            return noisy, drawing / 2 + 0.5  # published ones read [0, 1]
        beside = noisy.new_zeros(())
        if self.control and self.reads_noise:
            beside = torch.zeros_like(noisy)
        if drawing is None:
            return noisy, beside
        drawn = minus_empty(drawing, self.empty_drawing)
        return (noisy, drawn) if self.reads_noise else (drawn, beside)

    def stock(self) -> ControlNetModel:
        """Convert the branch to diffusers' own class; weights are shared where possible.

        The result reads the noisy latents, and in place of the prompt's features what the branch
        reads, without masked tokens. Its control image is in [0, 1], or with latents z_lmk minus
        the empty drawing's; without control it is ignored. A noise gate is its conditioning_scale.
        """
        if self.pixels:
            return self.controlnet
        return as_stock(self.controlnet, self._input_convolution())

    def load_stock(self, stock: ControlNetModel) -> None:
        """Load the weights of a result of `stock`. Raises ValueError for another architecture."""
        if self.pixels:
            load_alike(self.controlnet, stock.state_dict())
        else:
            load_from_stock(self.controlnet, self._input_convolution(), stock)

    def _input_convolution(self) -> str | None:
        """Return the name of the convolution that reads z_lmk; None where there is none."""
        if not self.control:
            return None
        return "controlnet_cond_embedding" if self.reads_noise else "conv_in"

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return the output convolutions and, where there is one, the input's last convolution.

        The output convolutions start at zero only where the net is a copy of the UNet's encoder.
        """
        net = self.controlnet
        entry = net.controlnet_cond_embedding
        modules = [*net.controlnet_down_blocks, net.controlnet_mid_block]
        modules.append(entry.conv_out if self.pixels else entry)
        return [parameter for module in modules for parameter in module.parameters()]


def pixel_stages(backbone: Backbone) -> tuple[int, ...]:
    """Return the channels of the embedding of pixels, each of whose stages halves the image.

    There are three halvings for the published eight pixels per latent cell.
    """
    return _STAGES[: (backbone.image_size // backbone.latent_size).bit_length()]


def minus_empty(drawing: Tensor, empty: Tensor) -> Tensor:
    """Subtract the latents of an empty drawing [1, c, h, w] from those of drawings [B, c, h, n·w].

    A picture that is laid beside others is n times as wide as the empty one.
    """
    return drawing - empty.repeat(1, 1, 1, drawing.shape[-1] // empty.shape[-1])


def _check(reads: str, way_in: str, noise_is_read: bool) -> None:
    for name, value, known in (("reads", reads, Reads), ("way_in", way_in, WayIn)):
        check_choice(f"net.{name}", value, get_args(known))
    if not noise_is_read:
        raise ValueError(
            "net.way_in=pixels adds the control image to the noisy latents, which "
            "net.reads_noise=false leaves out; choose net.reads_noise=true or net.way_in=latents."
        )


def _check_embeds_pixels(controlnet: ControlNetModel) -> None:
    if not isinstance(controlnet.controlnet_cond_embedding, ControlNetConditioningEmbedding):
        raise ValueError(
            "net.start has no embedding of the control image's pixels; give a published "
            "ControlNet, or choose net.start=null or net.way_in=latents."
        )


def _zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
