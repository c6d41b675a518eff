"""Cache the self-attentions' features of one pass of a UNet, and fuse them into another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor

Features = Literal["output", "map"]
Fuse = Callable[[Tensor, Tensor], Tensor]
"""A function from own features [F, P, C] and cached ones to the fused."""
BLOCKS = ("down", "mid", "up")
"""Blocks of diffusers' UNet."""


class SelfAttentionCache:
    """Features of a UNet's self-attentions by noise level, which later passes are fused with.

    blocks: those of BLOCKS whose self-attentions take part. features: "output" is what the
    attention adds to the hidden features; "map" are its weights, P positions by heads times P.

    Features are kept on the CPU in half precision, as much as a level's passes need: the size of
    the latents' maps times their channels, for each layer, noise level and face.
    """

    def __init__(
        self, unet: UNet2DConditionModel, blocks: Sequence[str], features: Features
    ) -> None:
        self._unet = unet
        self._blocks = tuple(f"{block}_block" for block in blocks)
        self._features = features
        self._cached: dict[tuple[str, int], Tensor] = {}
        self._step: int | None = None
        self._fuse: Fuse | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Set processors in the UNet's self-attentions; the previous ones return afterwards.

        Raises ValueError for maps of attentions that a net has adapted.
        """
        own = self._unet.attn_processors
        changed = {
            name: self._watched(name, processor)
            if name.startswith(self._blocks) and name.endswith("attn1.processor")
            else processor
            for name, processor in own.items()
        }
        self._unet.set_attn_processor(changed)
        try:
            yield
        finally:
            self._unet.set_attn_processor(own)

    @contextmanager
    def caching(self, step: int) -> Iterator[None]:
        """Cache the features of the passes in this context; the last pass counts."""
        self._step = step
        try:
            yield
        finally:
            self._step = None

    @contextmanager
    def fusing(self, step: int, fuse: Fuse) -> Iterator[None]:
        """Replace the features of the passes in this context by their fusion with the cached."""
        self._step, self._fuse = step, fuse
        try:
            yield
        finally:
            self._step = self._fuse = None

    def through(self, name: str, features: Tensor) -> Tensor:
        """Cache or fuse the features [F, P, C] of one attention, as the context says."""
        if self._step is None:
            return features
        place = name, self._step
        if self._fuse is None:
            self._cached[place] = features.detach().to("cpu", torch.float16)
            return features
        cached = self._cached[place].to(features.device, torch.float32)
        return self._fuse(features.float(), cached).to(features.dtype)

    def _watched(self, name: str, own: Any) -> Any:
        if self._features == "output":
            return _WatchedOutput(self, name, own)
        if type(own) not in (AttnProcessor, AttnProcessor2_0):
            raise ValueError(
                f"edit.features=map needs the UNet's own self-attentions, and the net has set "
                f"{type(own).__name__}; choose edit.features=output."
            )
        return _WatchedMap(self, name)


class _WatchedOutput:
    """A processor that passes the output of another, [F, P, C], through the cache."""

    def __init__(self, cache: SelfAttentionCache, name: str, own: Any) -> None:
        self.cache = cache
        self.name = name
        self.own = own
        self.injected = "ip_hidden_states" in inspect.signature(own.__call__).parameters

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: Any = None,
    ) -> Tensor:
        given = (attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        more = {"ip_hidden_states": ip_hidden_states} if self.injected else {}
        return self.cache.through(self.name, self.own(*given, **more))


class _WatchedMap:
    """diffusers' AttnProcessor, with the attention's weights passed through the cache."""

    def __init__(self, cache: SelfAttentionCache, name: str) -> None:
        self.cache = cache
        self.name = name

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        assert encoder_hidden_states is None
        assert attention_mask is None
        faces, heads = len(hidden_states), attn.heads
        query, key, value = (
            attn.head_to_batch_dim(layer(hidden_states))
            for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        # A position's features are its weights for all heads and keys.
        weights = attn.get_attention_scores(query, key).unflatten(0, (faces, heads))
        seen = self.cache.through(self.name, weights.transpose(1, 2).flatten(2))
        fused = seen.unflatten(2, (heads, -1)).transpose(1, 2).clamp(min=0)
        fused = fused / fused.sum(-1, keepdim=True).clamp(min=1e-6)
        out = attn.batch_to_head_dim(fused.flatten(0, 1).to(value) @ value)
        return attn.to_out[1](attn.to_out[0](out))
