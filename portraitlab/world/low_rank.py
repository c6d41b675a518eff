"""Weights stored as low-rank differences from those of another network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_DOWN, _UP = ".down", ".up"


def low_rank_differences(
    weights: Mapping[str, Tensor], base: Mapping[str, Tensor], rank: int
) -> dict[str, Tensor]:
    """Replace matrices and kernels that `base` has too by their difference from it.

    A difference [out, in, ...] becomes the product of `NAME.up` [out, rank] and `NAME.down`
    [rank, in·...], the nearest of this rank; where this is not smaller, and for all other weights,
    the weight itself is kept.
    """
    stored: dict[str, Tensor] = {}
    for name, value in weights.items():
        known = base.get(name)
        if known is None or known.shape != value.shape or value.dim() < 2:
            stored[name] = value
            continue
        change = (value - known).flatten(1)
        if rank * sum(change.shape) >= change.numel():
            stored[name] = value
            continue
        left, scales, right = torch.linalg.svd(change, full_matrices=False)
        share = scales[:rank].sqrt()
        stored[name + _UP] = left[:, :rank] * share
        stored[name + _DOWN] = share[:, None] * right[:rank]
    return stored


def add_differences(stored: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a result of `low_rank_differences`."""
    weights = dict[str, Tensor]()
    for name, value in stored.items():
        if name.endswith(_DOWN):
            continue
        if name.endswith(_UP):
            name = name.removesuffix(_UP)
            change = value @ stored[name + _DOWN]
            value = base[name] + change.view_as(base[name])
        weights[name] = value
    return weights
