"""Pair a UNet's layers with trained copies, and merge both into a plain UNet (FPGA, Sec. 3.3).

Structural reparameterisation as in RepVGG (Ding et al., 2021): a convolution or linear layer and
its copy are linear in their weights, so two layers whose outputs are added are one layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from diffusers import UNet2DConditionModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

_FIRST = "conv_in"


class LayerPair(nn.Module):
    """A frozen layer and its trained copy, which read the same features (Fig. 4)."""

    def __init__(self, original: nn.Module, copy: nn.Module) -> None:
        super().__init__()
        self.original = original
        self.copy = copy

    def forward(self, features: Tensor) -> Tensor:
        """Add the outputs of both layers."""
        return self.original(features) + self.copy(features)


class Entry(nn.Module):
    """A UNet's first convolution, whose input may have further channels.

    The further channels are features of the output's width; they are added to the output. They are
    part of the input because a UNet passes nothing else to its first convolution, and a hook that
    adds them would not be safe where threads share the UNet.
    """

    def __init__(self, convolution: nn.Module, channels: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.channels = channels

    def forward(self, noisy: Tensor) -> Tensor:
        """Convolve the first c channels of [B, c, h, w] or [B, c + C, h, w] to [B, C, h, w]."""
        out = self.convolution(noisy[:, : self.channels])
        features = noisy[:, self.channels :]
        return out + features.to(out.dtype) if features.shape[1] else out


def with_entry(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Let a UNet's first convolution take features to add, in place."""
    unet.conv_in = Entry(unet.conv_in, unet.config.in_channels)
    return unet


def copied_layers(unet: UNet2DConditionModel, ratio: float) -> dict[str, nn.Module]:
    """Copy all convolution and linear layers to be trained, by name: eq. 5, ratio times theirs.

    Trained weights are in single precision, whatever the UNet's.
    """
    copies: dict[str, nn.Module] = {
        name: deepcopy(layer).float().requires_grad_(True)
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    with torch.no_grad():
        for copy in copies.values():
            for weights in copy.parameters():
                weights.mul_(ratio)
    return copies


def paired(unet: UNet2DConditionModel, copies: Mapping[str, nn.Module]) -> UNet2DConditionModel:
    """Return a UNet of pairs. Its frozen weights are those of `unet`, which is left as it is."""
    pairs = sharing(unet)
    for name, copy in copies.items():
        pairs.set_submodule(name, LayerPair(pairs.get_submodule(name), copy))
    return with_entry(pairs)


def copies_in(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """Return the copies in a result of `paired`, by the names of their layers."""
    inner = f"{_FIRST}.convolution"
    return {
        _FIRST if name == inner else name: pair.copy
        for name, pair in unet.named_modules()
        if isinstance(pair, LayerPair)
    }


@torch.no_grad()
def merged(
    unet: UNet2DConditionModel, copies: Mapping[str, nn.Module], alpha: float, beta: float
) -> UNet2DConditionModel:
    """Merge copies into a plain UNet: alpha times its weights plus beta times theirs (eq. 6).

    The sum is computed in single precision, and is in the precision of `unet`, which is left as it
    is. Weights without a copy are shared. LoRAs of `unet` act as before, on top of the sum.
    """
    plain = sharing(unet)
    for name, copy in copies.items():
        layer = plain.get_submodule(name)
        if isinstance(layer, BaseTunerLayer):
            layer = layer.get_base_layer()
        for kind, trained in copy.named_parameters():
            own = layer.get_parameter(kind)
            weights = (alpha * own.float() + beta * trained.float()).to(own.dtype)
            setattr(layer, kind, nn.Parameter(weights, requires_grad=False))
    return plain


def sharing(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Copy a UNet's modules; parameters and attention processors are the same objects."""
    kept = [*unet.parameters(), *unet.attn_processors.values()]
    return deepcopy(unet, {id(each): each for each in kept})
