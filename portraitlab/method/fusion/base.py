"""The base class of fusions, the projection of embeddings, and the flattening of references."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from portraitlab.types import FaceFeatures, IdentityTokens

_recomputed = partial(checkpoint, use_reentrant=False)
"""Call a layer without keeping its activations, which the backward pass recomputes."""


class GlobalProjection(nn.Linear):
    """A linear map of unit-length embeddings [..., d2] to [..., d] (phi_1 of Sec. 3.2).

    Embeddings are scaled to unit variance first, since a unit vector's entries shrink with its
    width. So the global token has the magnitude of the local ones for any recogniser.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Scale embeddings to unit variance, then map them."""
        return super().forward(input * self.in_features**0.5)


class Fusion(nn.Module):
    """A model from the features of N references to T identity tokens each.

    gives_tokens: False where there are no tokens, so that the net reads the prompt instead. A
    fusion with layers calls each by `through`, so that gradient checkpointing applies to it.
    """

    gives_tokens: bool = True
    _checkpoint: Callable[..., Any] | None = None

    def forward(self, features: FaceFeatures) -> IdentityTokens | None:
        """Fuse references to tokens [B, N·T, d], masked as their reference; None: fusion=none."""
        raise NotImplementedError

    def through(self, layer: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Apply a layer; with gradient checkpointing only its inputs are kept."""
        if self._checkpoint is None or not torch.is_grad_enabled():
            return layer(*inputs)
        output: Tensor = self._checkpoint(layer, *inputs)
        return output

    def enable_gradient_checkpointing(self, checkpoint: Callable[..., Any] | None = None) -> None:
        """Enable gradient checkpointing, under the name of diffusers; see PortraitModel."""
        self._checkpoint = checkpoint or _recomputed


def check_heads(dim: int, heads: int) -> None:
    """Check that attention's heads divide the width of identity tokens. Raises ValueError."""
    if dim % heads:
        raise ValueError(
            f"fusion.heads={heads} does not divide the width of identity tokens, {dim}; "
            "choose a divisor."
        )


def flatten_references(tokens: Tensor, mask: Tensor) -> IdentityTokens:
    """Concatenate the tokens of all references: F'_face of Sec. 3.2.

    tokens [B, N, T, d], mask [B, N]. Tokens of masked references are set to zero, which also
    removes the biases of linear layers from them.
    """
    tokens = tokens.masked_fill(~mask[..., None, None], 0.0)
    return IdentityTokens(tokens.flatten(1, 2), mask.repeat_interleave(tokens.shape[2], dim=1))
