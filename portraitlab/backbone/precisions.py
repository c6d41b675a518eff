"""The precisions that frozen models compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

_PRECISIONS = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip


def precision_named(name: str, setting: str = "backbone.precision") -> torch.dtype:
    """A precision by its name. Raises ValueError for one that is not known, with the setting."""
    if name not in _PRECISIONS:
        raise ValueError(f"{setting}={name}: choose one of {', '.join(_PRECISIONS)}")
    return _PRECISIONS[name]


def products_in(model: nn.Module, precision: torch.dtype) -> Any:
    """The model with the weights of its products in a precision, those of its norms in single.

    As autocast would have them at each product, but cast once.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.to(precision)
        elif isinstance(part, nn.GroupNorm | nn.LayerNorm):
            part.float()
    return model


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Compute inside in the precision of weights and inputs, whatever is around it."""
    # On the meta device, where only sizes are asked for, there is none.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
