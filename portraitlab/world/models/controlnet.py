"""The world's ControlNet for faces, of diffusers' class, and the tokens it is trained with."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

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
    # The UNet attends from 8 x 8 on; what makes a face someone's is finer than that.
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "conditioning_embedding_out_channels": [1, 1],
}  # fmt: skip
REFERENCES = 4
"""The most references whose tokens the ControlNet learns to read side by side."""


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
    """Identity tokens from traits [B, size], in a form that changes from call to call.

    They teach the ControlNet to draw a person from tokens, and are thrown away: a method brings
    tokens of its own, from photos. So that it favours no method's form, the traits are dealt out
    anew in each call, as cards are to players: over one token or over as many as there are traits,
    and once for each of one to four references. A token may tell something of the whole person, as
    those of a refiner can, or of one place alone, as those of a concatenation do; it is the sum of
    what it was dealt, each trait along a direction of its own and with a name that says which.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(size, width))
        self.names = nn.Parameter(torch.randn(size, width))

    def forward(self, traits: Tensor, generator: torch.Generator) -> IdentityTokens:
        """Tokens [B, N·T, width], about of unit size, of one deal for all B.

        generator: of the CPU. T is between 1 and size, as likely below its square root as above; N
        is between 1 and REFERENCES. Tokens to which nothing was dealt are masked.
        """
        size = traits.shape[1]
        tokens = round(size ** float(torch.rand((), generator=generator)))
        references = int(torch.randint(1, REFERENCES + 1, (), generator=generator))
        holder = torch.randint(tokens, (references, size), generator=generator)
        dealt = nn.functional.one_hot(holder, tokens).mT.flatten(0, 1).to(traits)
        counts = dealt.sum(1, keepdim=True)
        told = (traits[..., None] * self.directions + self.names) / 2**0.5
        mask = (counts[:, 0] > 0).expand(len(traits), -1)
        return IdentityTokens(dealt / counts.clamp(min=1).sqrt() @ told, mask)
