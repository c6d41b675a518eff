"""Choose the precision in which a device computes fastest without harm to weights or scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from portraitlab.support.checks import check_choice

# Lightning's names, also its short ones. All keep weights, gradients and Adam's moments in single
# precision, since small steps would be lost in half precision.
_NAMED = {
    **{name: name for name in ("bf16-mixed", "32-true", "16-mixed")},
    **{"bf16": "bf16-mixed", "32": "32-true"},
}


def precision_of(trainer: Mapping[str, Any], half_weights: bool = False) -> str:
    """Return Lightning's name of the precision in a trainer's configuration.

    "quickest" is bfloat16 products where the hardware has them, with weights, gradients and Adam's
    moments in single precision; else all in single precision. half_weights: True where the frozen
    models' weights are in half precision, which single precision cannot be multiplied with.

    Raises ValueError for a precision that training does not support.
    """
    name = str(trainer["precision"])
    if name != "quickest":
        check_choice("trainer.precision", name, ("quickest", *_NAMED))
        if name == "16-mixed" and not _may_have_gpu(trainer):
            raise ValueError(
                f"trainer.precision={name}: on a CPU Lightning would compute in bfloat16 instead; "
                "choose bf16-mixed, 32-true or quickest"
            )
        return _NAMED[name]
    if trainer["accelerator"] != "cpu" and torch.accelerator.is_available():
        return "bf16-mixed"
    return "bf16-mixed" if half_weights else _quickest_on_cpu()


def frozen_precision(name: str, device: torch.device) -> str:
    """Return Lightning's name of the precision of frozen models and samplers on a device.

    name: the setting `precision`, one of "quickest", "bf16-mixed" and "32-true". "quickest" is
    bfloat16 products on a CPU with the hardware for them, else "32-true": the models' own
    precision (backbone.precision). Raises ValueError for any other name.

    On the world's photos bfloat16 judges 1.7 times and encodes and decodes 1.4 and 1.6 times as
    fast on one core. Embeddings keep a cosine of .9999 with those of single precision; the judge's
    cosine of a round trip with its photo goes from .9602 to .9600, and keypoints, .62 px from the
    truth either way, move by .02 px. It draws 1.5 times as fast: from the same noise pictures with
    a judge's cosine of .9995, keypoints .04 px apart, and the same CLIP-T (.782).
    """
    if name == "quickest":
        return _quickest_on_cpu() if device.type == "cpu" else "32-true"
    check_choice("precision", name, ("quickest", "bf16-mixed", "32-true"))
    return name


def computing_in(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """Multiply in bfloat16 inside the context where frozen_precision returns "bf16-mixed".

    Results may be in bfloat16: the caller casts what it keeps to single precision.
    """
    half = frozen_precision(name, device) == "bf16-mixed"
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()


def _quickest_on_cpu() -> str:
    # Older versions of torch cannot report it; emulated, bfloat16 would be slower than float32.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if capabilities.get("avx512_bf16") else "32-true"


def _may_have_gpu(trainer: Mapping[str, Any]) -> bool:
    """Return True where a GPU is configured, on this machine or on the one that will train."""
    accelerator = trainer["accelerator"]
    return accelerator not in ("cpu", "auto") or (
        accelerator == "auto" and torch.accelerator.is_available()
    )


@contextmanager
def quick_attention(device: torch.device) -> Iterator[None]:
    """Compute attention by plain products on a CPU.

    Its fused attention has a slow backward pass in bfloat16 (benchmarks/training_step.py).
    """
    if device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Compute inside the context in the precision of weights and inputs, without autocast."""
    # The meta device, on which only sizes are computed, has no autocast.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
