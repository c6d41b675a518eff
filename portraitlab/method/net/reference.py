"""A reference net and the attention that reads its maps (Zhang et al., FlashFace, 2024)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.attention import attended, gated
from portraitlab.types import Injection, ReferenceMaps


class ReferenceNet(ModelMixin):
    """A trained copy of the UNet's encoder that encodes photos as feature maps.

    FlashFace's face reference net is a copy of the whole UNet; the decoder's maps would double the
    cost. It reads clean latents at noise level 0 with the empty prompt, so its maps are the same at
    every noise level of the target. Where the empty prompt is all zeros, its text attention is
    frozen except for the output bias, the only parameter with an effect.
    """

    _supports_gradient_checkpointing = True  # that of the UNet's blocks

    empty_text: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        unet = backbone.unet
        self.conv_in = deepcopy(unet.conv_in)
        self.time_proj = deepcopy(unet.time_proj)
        self.time_embedding = deepcopy(unet.time_embedding)
        self.down_blocks = deepcopy(unet.down_blocks)
        self.mid_block = deepcopy(unet.mid_block)
        # Trained weights are in single precision, whatever the backbone's.
        self.float().requires_grad_(True)
        if backbone.empty_prompt_is_zero:
            self._freeze_text_attention()
        # Not saved with a run, since it follows from the backbone.
        self.register_buffer("empty_text", backbone.encode_text([""]).words, persistent=False)

    def forward(self, latents: Tensor) -> list[Tensor]:
        """Encode R photos' latents [R, c, h, w] as maps [R, h'·w', C].

        Returns a map of each encoder block, before downsampling, then the middle's.
        """
        level = torch.zeros(len(latents), device=latents.device)
        time = self.time_embedding(self.time_proj(level).to(latents.dtype))
        text = self.empty_text.expand(len(latents), -1, -1)
        hidden = self.conv_in(latents)
        maps = []
        for block in self.down_blocks:
            given: dict[str, Tensor] = {"temb": time}
            if getattr(block, "has_cross_attention", False):
                given["encoder_hidden_states"] = text
            hidden, states = block(hidden, **given)
            maps.append(states[len(block.resnets) - 1])
        maps.append(self.mid_block(hidden, time, encoder_hidden_states=text))
        return [each.flatten(2).transpose(1, 2) for each in maps]

    def _freeze_text_attention(self) -> None:
        """Freeze text attention except its output bias: keys and values of zeros are zero."""
        for block in self.modules():
            if isinstance(block, BasicTransformerBlock):
                block.norm2.requires_grad_(False)
                block.attn2.requires_grad_(False)
                block.attn2.to_out[0].bias.requires_grad_(True)


class ReferenceAttention(nn.Module):
    """Attention over the image's own features and those of the references, concatenated.

    It is added to a self-attention and starts from its weights, except for the output projection,
    which starts at zero: it changes nothing before the first step.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.norm = nn.LayerNorm(attention.query_dim)
        self.query = deepcopy(attention.to_q)
        self.key = deepcopy(attention.to_k)
        self.value = deepcopy(attention.to_v)
        self.out = deepcopy(attention.to_out[0])
        self.float().requires_grad_(True)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
        """Compute the addition [B, h·w, C] to features of that shape.

        maps [B, N·T, C] of the references; mask [B, N·T], False for those of masked references.
        """
        context = torch.cat([features, self.norm(maps)], dim=1)
        known = functional.pad(mask, (features.shape[1], 0), value=True)
        key, value = self.key(context), self.value(context)
        return self.out(attended(self.query(features), key, value, self.heads, known[:, None]))


class WithReferences:
    """A self-attention, `own`, and the reference attention added to it.

    place: index of its layer of the injected maps. Without injected maps the result is that of
    `own` to the bit. added is a module of the net that makes this processor.
    """

    def __init__(self, own: Any, added: ReferenceAttention, place: int) -> None:
        self.own = own
        self.added = added
        self.place = place

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: Injection | None = None,
    ) -> Tensor:
        """Attend from hidden_states [B, h·w, C] to themselves and to injected maps."""
        out = self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if ip_hidden_states is None:
            return out
        maps = ip_hidden_states.attention
        assert isinstance(maps, ReferenceMaps)
        layer = maps.layers[self.place]
        added = self.added(hidden_states, layer.tokens, layer.mask)
        return out + gated(added, ip_hidden_states.gate)
