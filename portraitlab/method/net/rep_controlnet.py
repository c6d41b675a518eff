"""RepControlNet: trained copies of the UNet's layers that are merged for drawing (FPGA)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import get_args

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding, zero_module
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.control_branch import WayIn, minus_empty
from portraitlab.method.net.reparameterised import (
    copied_layers,
    copies_in,
    merged,
    paired,
    sharing,
    with_entry,
)
from portraitlab.support.checks import check_choice, check_number
from portraitlab.types import Condition, Injection

_STAGES = (16, 32, 96, 256)
"""Channels of ControlNet's embedding of pixels, as published."""


class RepControlNet(Net):
    """Trained copies of the UNet's convolutions and linear layers (FPGA, Sec. 3.3).

    The outputs of each frozen layer and its copy are added. Copies start at `ratio` times the
    layer's weights (w of eq. 5), so that an untrained net already differs from the backbone. For
    drawing, alpha times the frozen and beta times the copied weights are merged into a plain UNet
    (eq. 6) with the cost of the backbone; 1 and 1 reproduce the trained net.

    A condition adapter encodes the control image, once for all noise levels, to features that are
    added to those of the UNet's first convolution. way_in: "pixels" is ControlNet's embedding of
    the control image in [0, 1]; "latents" is one convolution of its latents minus an empty
    drawing's. Either starts at zero.

    Identity tokens, if there are any, are read by decoupled cross-attention, which has no layer to
    be merged with. scale, noise_gate and adapter_start: see Adapter.

    The backbone is not changed: guidance, which drops the whole condition, has it alone.

    Raises ValueError without a control image and identity, for an unknown way_in, for a ratio,
    alpha or beta that is not finite, and as Adapter does.
    """

    merges = True
    unet: UNet2DConditionModel

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        ratio: float = 0.1,
        alpha: float = 1.0,
        beta: float = 1.0,
        way_in: WayIn = "pixels",
        scale: float = 1.0,
        noise_gate: float = 0.0,
        adapter_start: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(control, identity, pixels=control and way_in == "pixels")
        if not control and not identity:
            raise ValueError(
                "net=rep_controlnet has nothing to read with fusion=none and cond=none; choose a "
                "cond, a fusion, or net=none for the backbone alone."
            )
        check_choice("net.way_in", way_in, get_args(WayIn))
        for name, value in (("ratio", ratio), ("alpha", alpha), ("beta", beta)):
            check_number(f"net.{name}", value)
        self.alpha = alpha
        self.beta = beta
        # The adapter's processors are set on a copy of the UNet's modules.
        unet = sharing(backbone.unet)
        self.adapter = (
            Adapter(backbone.with_unet(unet), False, True, scale, noise_gate, start=adapter_start)
            if identity
            else None
        )
        self.condition_adapter = ConditionAdapter(backbone, self.pixels) if control else None
        self.unet = paired(unet, copied_layers(unet, ratio))

    def read_drawing(self, drawing: Tensor) -> Tensor:
        """Encode the control image to features [B, C, h, w] of the UNet's first convolution.

        Raises ValueError for a control image in another form than the net was built for.
        """
        assert self.condition_adapter is not None, "only called where there is a control image"
        return self.condition_adapter(drawing)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Inject the UNet of pairs, the control image's features and the identity tokens.

        condition.drawing: a result of read_drawing.
        """
        tokens = condition.tokens if self.identity else None
        features = condition.drawing if self.control else None
        if tokens is None and features is None:
            return Injection()
        known = Injection()
        if self.adapter is not None and tokens is not None:
            known = self.adapter(noisy, timesteps, condition)
        return replace(known, unet=self.unet, features=features)

    def with_unet(self, unet: UNet2DConditionModel) -> RepControlNet:
        """Return the net with the same copies beside the layers of another UNet."""
        return self._running(self._attending(paired(unet, copies_in(self.unet))))

    def running_unet(self, backbone: Backbone) -> UNet2DConditionModel:
        """Return the UNet of pairs, or the merged one."""
        return self.unet

    def for_drawing(self, backbone: Backbone) -> RepControlNet:
        """Return the net with its present weights merged into the backbone's UNet.

        Later steps of training do not change the result. A merged net is returned as it is.
        """
        if not copies_in(self.unet):
            return self
        return self._running(with_entry(self._attending(self.merged_unet(backbone))))

    def merged_unet(self, backbone: Backbone) -> UNet2DConditionModel:
        """Merge the present weights into a plain UNet, without the identity's attention (eq. 6)."""
        return merged(backbone.unet, copies_in(self.unet), self.alpha, self.beta)

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return the last convolution of the condition adapter."""
        if self.condition_adapter is None:
            return []
        return list(self.condition_adapter.last.parameters())

    def _attending(self, unet: UNet2DConditionModel) -> UNet2DConditionModel:
        unet.set_attn_processor(self.unet.attn_processors)
        return unet

    def _running(self, unet: UNet2DConditionModel) -> RepControlNet:
        other = copy(self)
        other._modules = {**self._modules, "unet": unet}
        return other


class ConditionAdapter(nn.Module):
    """The condition adapter: features of the control image for the UNet's first convolution.

    "The two tensors have the same dimension" (Sec. 3.3) is read as the C channels of the first
    convolution's output: with ControlNet's embedding of pixels in these channels SD1.5 has the
    1067 M parameters and the 0.35 T multiply-adds of Table 5, and in those of the latents 0.34 T.
    """

    empty_drawing: Tensor

    def __init__(self, backbone: Backbone, pixels: bool) -> None:
        super().__init__()
        self.pixels = pixels
        width = backbone.unet.config.block_out_channels[0]
        channels, size = backbone.latent_channels, backbone.image_size
        empty = None
        if pixels:
            # Each stage but the first halves the image: three for eight pixels per latent cell.
            halvings = (size // backbone.latent_size).bit_length() - 1
            stages = _STAGES[: halvings + 1]
            self.embedding: nn.Module = ControlNetConditioningEmbedding(width, 3, stages)
        else:
            self.embedding = zero_module(nn.Conv2d(channels, width, 3, padding=1))
            with torch.no_grad():
                black = -torch.ones(1, 3, size, size, device=backbone.latent_scale.device)
                empty = backbone.encode(black)
        # Not saved with a run, since it follows from the backbone.
        self.register_buffer("empty_drawing", empty, persistent=False)

    @property
    def last(self) -> nn.Module:
        """The last convolution, which starts at zero."""
        return self.embedding.get_submodule("conv_out") if self.pixels else self.embedding

    def forward(self, drawing: Tensor) -> Tensor:
        """Encode pixels [B, 3, H, W] in [-1, 1] or latents [B, c, h, w] to [B, C, h, w]."""
        needed = 3 if self.pixels else self.empty_drawing.shape[1]
        if drawing.shape[1] != needed:
            form = "pixels" if self.pixels else "latents"
            raise ValueError(
                f"The net reads a control image as {form} of {needed} channels, and is given "
                f"{drawing.shape[1]} channels; draw with the cond and the net.way_in that it was "
                "trained with."
            )
        if self.pixels:
            return self.embedding(drawing / 2 + 0.5)
        return self.embedding(minus_empty(drawing, self.empty_drawing))
