"""Cast the weights of frozen models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from portraitlab.diffusion.own_precision import OwnPrecision
from portraitlab.support.checks import check_choice

_PRECISIONS = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip


def precision_named(name: str, setting: str = "backbone.precision") -> torch.dtype:
    """Return a precision by name. Raises ValueError with the setting for an unknown name."""
    check_choice(setting, name, _PRECISIONS)
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


@contextmanager
def cast_once(module: nn.Module, precision: str) -> Iterator[None]:
    """Cast the frozen weights of products once, instead of by autocast in every step.

    Results are the same to the bit, and the weights are restored at the end. Weights of an
    OwnPrecision, which autocast does not reach, are not cast. precision: Lightning's name; other
    than "bf16-mixed" changes nothing.
    """
    single: dict[nn.Parameter, Tensor] = {}
    if precision == "bf16-mixed":
        for part in _under_autocast(module):
            if isinstance(part, nn.Linear | nn.Conv2d):
                frozen = [p for p in part.parameters(recurse=False) if not p.requires_grad]
                single |= {parameter: parameter.data for parameter in frozen}
    try:
        for parameter in single:
            parameter.data = parameter.data.bfloat16()
        yield
    finally:
        for parameter, weights in single.items():
            parameter.data = weights.to(parameter.device)


def _under_autocast(module: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(module, OwnPrecision):
        yield module
        for child in module.children():
            yield from _under_autocast(child)
