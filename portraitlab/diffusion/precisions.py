"""Precisions of frozen weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_PRECISIONS = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip


def precision_named(name: str, setting: str = "backbone.precision") -> torch.dtype:
    """Return a precision by name. Raises ValueError with the setting for an unknown name."""
    if name not in _PRECISIONS:
        raise ValueError(f"{setting}={name}: choose one of {', '.join(_PRECISIONS)}")
    return _PRECISIONS[name]


def products_in(model: nn.Module, precision: torch.dtype) -> Any:
    """Cast a model's linear and convolution weights to a precision, those of norms to single.

    Autocast does the same at each product; this casts once.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.to(precision)
        elif isinstance(part, nn.GroupNorm | nn.LayerNorm):
            part.float()
    return model
