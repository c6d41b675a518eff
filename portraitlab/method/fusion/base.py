"""What every fusion shares: linear maps to one width, and the flattening of references."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from portraitlab.types import FaceFeatures, IdentityTokens

_anew = partial(checkpoint, use_reentrant=False)
"""Calls a layer and forgets what it computes, until a gradient is asked for."""


class GlobalProjection(nn.Linear):
    """Linear map of unit-length embeddings [..., d2] to [..., d] (phi_1 of Sec. 3.2).

    A unit vector's entries shrink with its width; scaling them to unit variance first gives the
    global token the same size as the local ones whatever the recogniser.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Scale to unit variance, then map."""
        return super().forward(input * self.in_features**0.5)


class Fusion(nn.Module):
    """Turns the features of N references into T identity tokens each.

    gives_tokens: False where there are none, so that the net reads the prompt instead. What has
    layers calls each by `through`, which is all that gradient checkpointing asks of it.
    """

    gives_tokens: bool = True
    _checkpoint: Callable[..., Any] | None = None

    def forward(self, features: FaceFeatures) -> IdentityTokens | None:
        """Identity tokens [B, N·T, d], masked where their reference is; None with fusion=none."""
        raise NotImplementedError

    def through(self, layer: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """What a layer makes of its inputs; with gradient checkpointing only these are kept."""
        if self._checkpoint is None or not torch.is_grad_enabled():
            return layer(*inputs)
        output: Tensor = self._checkpoint(layer, *inputs)
        return output

    def enable_gradient_checkpointing(self, checkpoint: Callable[..., Any] | None = None) -> None:
        """As diffusers' models have it; see PortraitModel."""
        self._checkpoint = checkpoint or _anew


def flatten_references(tokens: Tensor, mask: Tensor) -> IdentityTokens:
    """Set the tokens of all references side by side: F'_face of Sec. 3.2.

    tokens [B, N, T, d], mask [B, N]. Tokens of masked references become zero, so that not even
    what a linear layer's bias made of them is left.
    """
    tokens = tokens.masked_fill(~mask[..., None, None], 0.0)
    return IdentityTokens(tokens.flatten(1, 2), mask.repeat_interleave(tokens.shape[2], dim=1))
