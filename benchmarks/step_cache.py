"""Reuse a UNet's deep features in several steps of a drawing (Ma et al., DeepCache, 2024)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn


class StepCache(nn.Module):
    """A UNet that computes all but its outermost blocks in every `every`-th call only.

    The input of the last up block is kept, and in the other calls combined with the first down
    block's outputs of the present step: DeepCache, with whole blocks in place of single layers.
    `calls` must be set to 0 before each drawing. A ControlNet's residuals are added to blocks that
    are not computed, so that they would be those of an earlier step: they are refused, while a
    merged RepControlNet has none. Of a UNet of SD1.5's form, without added embeddings.

    Raises ValueError for residuals.
    """

    def __init__(self, unet: UNet2DConditionModel, every: int) -> None:
        super().__init__()
        self.unet = unet
        self.config = unet.config
        self.every = every
        self.calls = 0
        self.kept: Tensor | None = None

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        down_block_additional_residuals: tuple[Tensor, ...] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> SimpleNamespace:
        """Predict as the UNet does, with the deep features of this call or an earlier one."""
        if down_block_additional_residuals is not None or added_cond_kwargs is not None:
            raise ValueError(
                "Step caching takes no residuals of a ControlNet and no inputs of SDXL."
            )
        dtype = self.unet.dtype  # as weights that were cast need their inputs
        words, given = encoder_hidden_states.to(dtype), cross_attention_kwargs
        hidden, time, skips = self.enter(sample.to(dtype), timestep, words, given)
        if self.calls % self.every == 0:
            self.kept = self.deep(hidden, time, skips, words, given)
        self.calls += 1
        assert self.kept is not None, "calls is 0 in the first"
        return SimpleNamespace(sample=self.leave(self.kept, time, skips, words, given))

    def compile_parts(self) -> None:
        """Compile the three parts, each for itself: which of them run changes with the call."""
        self.enter, self.deep, self.leave = (  # type: ignore[method-assign]
            torch.compile(part) for part in (self.enter, self.deep, self.leave)
        )

    def enter(
        self, sample: Tensor, timestep: Tensor, words: Tensor, given: Any
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Run the first convolution and down block: features, time embedding, skip connections."""
        unet = self.unet
        time = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep))
        first = unet.conv_in(sample)
        hidden, more = _run(unet.down_blocks[0], words, given, hidden_states=first, temb=time)
        return hidden, time, (first, *more)

    def leave(
        self, kept: Tensor, time: Tensor, skips: tuple[Tensor, ...], words: Tensor, given: Any
    ) -> Tensor:
        """Run the last up block and convolution on deep features."""
        unet, block = self.unet, self.unet.up_blocks[-1]
        outer = skips[: len(block.resnets)]
        hidden = _run(
            block, words, given, hidden_states=kept, temb=time, res_hidden_states_tuple=outer
        )
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))

    def deep(
        self, hidden: Tensor, time: Tensor, skips: tuple[Tensor, ...], words: Tensor, given: Any
    ) -> Tensor:
        """Run all blocks between: the features that are kept."""
        unet = self.unet
        for block in unet.down_blocks[1:]:
            hidden, more = _run(block, words, given, hidden_states=hidden, temb=time)
            skips += more
        hidden = unet.mid_block(
            hidden, time, encoder_hidden_states=words, cross_attention_kwargs=given
        )
        for block in unet.up_blocks[:-1]:
            count = len(block.resnets)
            skips, taken = skips[:-count], skips[-count:]
            hidden = _run(
                block, words, given, hidden_states=hidden, temb=time, res_hidden_states_tuple=taken
            )
        return hidden


def _run(block: Any, words: Tensor, given: Any, **inputs: Any) -> Any:
    """Call a block, with the text where it attends to it."""
    if getattr(block, "has_cross_attention", False):
        inputs |= {"encoder_hidden_states": words, "cross_attention_kwargs": given}
    return block(**inputs)
