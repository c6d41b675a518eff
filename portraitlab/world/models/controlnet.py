"""The world's ControlNet for faces, of diffusers' class, and the tokens it is trained with."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from portraitlab.world.models.text_to_image import UNET_CONFIG

CONFIG = {
    **{
        name: UNET_CONFIG[name]
        for name in (
            "in_channels", "layers_per_block", "block_out_channels", "cross_attention_dim",
            "attention_head_dim", "norm_num_groups",
        )
    },
    # The UNet attends from 8 x 8 on; what makes a face someone's is finer than that.
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "conditioning_embedding_out_channels": [1, 1],
}  # fmt: skip
TOKENS = 16


def make_controlnet(config: dict[str, Any] = CONFIG) -> ControlNetModel:
    """The architecture with random weights, without a path for pixels: drawings come as latents."""
    model = ControlNetModel(**config)
    model.controlnet_cond_embedding = nn.Identity()
    model.set_attn_processor(AttnProcessor())
    return model


def grow_from(unet: UNet2DConditionModel, config: dict[str, Any] = CONFIG) -> ControlNetModel:
    """A ControlNet with the weights of the UNet's encoder, and beyond it what changes nothing yet.

    Blocks of attention that the UNet lacks add nothing before training, as their last maps are 0.
    """
    model = make_controlnet(config)
    weights = unet.state_dict()
    own = model.state_dict()
    model.load_state_dict({name: weights.get(name, value) for name, value in own.items()})
    for name, module in model.named_modules():
        if name.endswith("proj_out") and f"{name}.weight" not in weights:
            assert isinstance(module, nn.Conv2d | nn.Linear)
            assert module.bias is not None
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model


class TraitTokens(nn.Module):
    """Tokens [B, TOKENS, width] of unit size from traits [B, size].

    They teach the ControlNet to draw a person from tokens, and are thrown away: a method brings
    tokens of its own, from photos.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(size, 256), nn.SiLU(), nn.Linear(256, TOKENS * width))
        self.norm = nn.LayerNorm(width)

    def forward(self, traits: Tensor) -> Tensor:
        """Tokens of each person."""
        return self.norm(torch.unflatten(self.layers(traits), -1, (TOKENS, -1)))
