"""Make conditions for the tests of nets, and write attention out slowly."""

from __future__ import annotations

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.types import Condition, IdentityTokens

TIMESTEPS = torch.tensor([500, 900])
"""Noise levels of the two samples that `condition` steers."""


def published(backbone: Backbone) -> ControlNetModel:
    """A ControlNet of the backbone's with something to say."""
    net = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(1, 1))
    torch.manual_seed(7)
    for block in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
        nn.init.normal_(block.weight, std=0.2)
    return net


def condition(backbone: Backbone, tokens: int = 3) -> Condition:
    """Two samples, the second of which has its last identity token masked."""
    generator = torch.Generator().manual_seed(1)
    edge = backbone.latent_size
    drawn = torch.randn(2, backbone.latent_channels, edge, edge, generator=generator)
    mask = torch.ones(2, tokens, dtype=torch.bool)
    mask[1, -1] = False
    known = torch.randn(2, tokens, backbone.text_dim, generator=generator) * mask[..., None]
    text = backbone.encode_text(["a man in a red shirt", "a painting"])
    return Condition(text, IdentityTokens(known, mask), drawn)


def noisy_latents(backbone: Backbone) -> Tensor:
    edge = backbone.latent_size
    shape = (2, backbone.latent_channels, edge, edge)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def attend(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """softmax(q K^T / sqrt(d)) V for one query [C] over keys and values [T, C], head by head."""
    width = len(query) // heads
    parts = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = torch.stack([query[part] @ key[part] for key in keys]) / width**0.5
        shares = scores.exp() / scores.exp().sum()
        parts.append(sum(share * value[part] for share, value in zip(shares, values, strict=True)))
    return torch.cat(parts)
