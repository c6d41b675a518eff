"""In which precision a device computes fastest without harm to the training or the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from portraitlab.backbone.own_precision import OwnPrecision

# Lightning's names, also its short ones. All hold weights, gradients and Adam's moments in single
# precision, in which alone small steps add up.
_NAMED = {
    **{name: name for name in ("bf16-mixed", "32-true", "16-mixed")},
    **{"bf16": "bf16-mixed", "32": "32-true"},
}


def precision_of(trainer: Mapping[str, Any]) -> str:
    """Lightning's name of the precision that a trainer's configuration asks for.

    "quickest" is bfloat16 products where they are in hardware, with weights, gradients and Adam's
    moments in single precision; else all in single precision. Raises ValueError for one that no
    training is done in.
    """
    asked = str(trainer["precision"])
    if asked != "quickest":
        if asked not in _NAMED:
            raise ValueError(
                f"trainer.precision={asked}: choose one of quickest, bf16-mixed, 32-true, 16-mixed"
            )
        if asked == "16-mixed" and not _may_have_gpu(trainer):
            raise ValueError(
                f"trainer.precision={asked}: on a CPU Lightning would compute in bfloat16 instead; "
                "choose bf16-mixed, 32-true or quickest"
            )
        return _NAMED[asked]
    if trainer["accelerator"] != "cpu" and torch.accelerator.is_available():
        return "bf16-mixed"
    return _quickest_on_cpu()


def frozen_precision(asked: str, device: torch.device) -> str:
    """Lightning's name of the precision that frozen models and a sampler compute in on a device.

    asked: the setting `precision`. "quickest" is bfloat16 products on a CPU with the hardware for
    them, and else "32-true": the models' own precision, as backbone.precision says. Raises
    ValueError for another name than these.

    On the world's photos bfloat16 judges 1.7 times and encodes and decodes 1.4 and 1.6 times as
    fast on one core. Embeddings keep a cosine of .9999 with those of single precision; the judge's
    cosine of a round trip with its photo goes from .9602 to .9600, and keypoints, .62 px from the
    truth either way, move by .02 px. It draws 1.5 times as fast: from the same noise pictures with
    a judge's cosine of .9995, keypoints .04 px apart, and the same CLIP-T (.782).
    """
    if asked == "quickest":
        return _quickest_on_cpu() if device.type == "cpu" else "32-true"
    if asked not in ("bf16-mixed", "32-true"):
        raise ValueError(f"precision={asked}: choose one of quickest, bf16-mixed, 32-true")
    return asked


def computing_in(asked: str, device: torch.device) -> AbstractContextManager[Any]:
    """Multiply in bfloat16 inside where frozen_precision says so; what is outside does not change.

    Results may be bfloat16: who keeps them makes them single precision again.
    """
    half = frozen_precision(asked, device) == "bf16-mixed"
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()


def _quickest_on_cpu() -> str:
    # An older torch does not tell; emulated, bfloat16 would be slower than float32.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if capabilities.get("avx512_bf16") else "32-true"


def _may_have_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether a GPU is asked for, here or where what is counted will be trained."""
    asked = trainer["accelerator"]
    return asked not in ("cpu", "auto") or (asked == "auto" and torch.accelerator.is_available())


@contextmanager
def quick_attention(device: torch.device) -> Iterator[None]:
    """Computes attention by plain products on a CPU.

    Its fused attention has a slow backward pass in bfloat16 (benchmarks/training_step.py).
    """
    if device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def cast_once(module: nn.Module, precision: str) -> Iterator[None]:
    """Holds the frozen weights of products in the precision they are multiplied in.

    Autocast would cast them in each step anew. What comes out is the same to the bit, and the
    weights are as they were in the end; those of an OwnPrecision, which autocast does not reach,
    stay as they are. precision: Lightning's name; other than "bf16-mixed" changes nothing.
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
