"""The world's ControlNet for faces, of diffusers' class, and identity tokens to train it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from portraitlab.diffusion.encoder_features import features_of
from portraitlab.types import IdentityTokens
from portraitlab.world.models.text_to_image import UNET_CONFIG

CONFIG = {
    **{
        name: UNET_CONFIG[name]
        for name in (
            "in_channels", "layers_per_block", "block_out_channels", "cross_attention_dim",
            "attention_head_dim", "norm_num_groups",
        )
    },
    # The UNet attends at 8 x 8 and below; features that identify a face are finer.
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "conditioning_embedding_out_channels": [1, 1],
}  # fmt: skip
REFERENCES = 4
"""Largest number of references whose tokens the ControlNet is trained to read at once."""


def make_controlnet(config: dict[str, Any] = CONFIG) -> ControlNetModel:
    """Build a ControlNet with random weights, whose control image is given as latents."""
    model = ControlNetModel(**config)
    model.controlnet_cond_embedding = nn.Identity()
    model.set_attn_processor(AttnProcessor())
    return model


def grow_from(unet: UNet2DConditionModel, config: dict[str, Any] = CONFIG) -> ControlNetModel:
    """Build a ControlNet from the weights of the UNet's encoder.

    Attention blocks that the UNet does not have add nothing before training: their output
    projections are zero.
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


def grow_branch(
    unet: UNet2DConditionModel, stages: Sequence[int] | None, layer: int | None
) -> ControlNetModel:
    """Build a ControlNet as a copy of the UNet's encoder.

    stages: channels of the embedding of the control image's pixels; None: the control image is
    given as latents. layer: see features_of; None: all layers, with zero convolutions behind them.
    """
    embedding = {"conditioning_embedding_out_channels": tuple(stages or (1, 1))}
    model = ControlNetModel.from_unet(unet, **embedding)
    if stages is None:
        model.controlnet_cond_embedding = nn.Identity()
    return model if layer is None else features_of(model, layer)


class TraitTokens(nn.Module):
    """Identity tokens from traits [B, size], distributed over tokens at random in each call.

    They train the ControlNet to draw a person from tokens, and are discarded afterwards: a method
    has its own tokens, from photos. To favour no method's tokens, each call distributes the traits
    at random over one token, over as many as there are traits, or over any number in between, once
    for each of one to four references. So a token may describe the whole person, as those of a
    refiner can, or one place alone, as those of a concatenation do. A token is the sum of its
    traits, each of which has a direction for its value and an embedding for its name.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(size, width))
        self.names = nn.Parameter(torch.randn(size, width))

    def forward(self, traits: Tensor, generator: torch.Generator) -> IdentityTokens:
        """Return tokens [B, N·T, width] of about unit size, with one distribution for all B.

        generator: CPU generator. T is 1 to size, with median sqrt(size); N is 1 to REFERENCES.
        Tokens without a trait are masked.
        """
        size = traits.shape[1]
        tokens = round(size ** float(torch.rand((), generator=generator)))
        references = int(torch.randint(1, REFERENCES + 1, (), generator=generator))
        holder = torch.randint(tokens, (references, size), generator=generator)
        dealt = nn.functional.one_hot(holder, tokens).mT.flatten(0, 1).to(traits)
        counts = dealt.sum(1, keepdim=True)
        embedded = (traits[..., None] * self.directions + self.names) / 2**0.5
        mask = (counts[:, 0] > 0).expand(len(traits), -1)
        return IdentityTokens(dealt / counts.clamp(min=1).sqrt() @ embedded, mask)
