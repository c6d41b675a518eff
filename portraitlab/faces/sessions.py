"""Choose the hardware of onnx sessions, and explain errors of damaged onnx files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from portraitlab.support.weights import unreadable

_ON_GPUS = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "ROCMExecutionProvider")


def session_providers(
    providers: Sequence[str], setting: str, gpu: int
) -> list[str | tuple[str, dict[str, str]]]:
    """Return execution providers for a session, best first, with the number of the GPU to use.

    gpu: the GPU's number; onnxruntime's default is 0 in every process of a group. Raises ValueError
    where no provider is given, and where this onnxruntime does not have one of them.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if isinstance(providers, str) or not providers:
        raise ValueError(
            f"{setting}={providers} is not a list of execution providers; give one or more of "
            f"{', '.join(available)}, as [{available[-1]}]."
        )
    missing = [provider for provider in providers if provider not in available]
    if missing:
        raise ValueError(
            f"{setting} has {', '.join(missing)}, but this onnxruntime only offers "
            f"{', '.join(available)}."
        )
    return [
        (provider, {"device_id": str(gpu)}) if provider in _ON_GPUS else provider
        for provider in providers
    ]


@contextmanager
def damage_explained(file: Path, remedy: str) -> Iterator[None]:
    """Raise a ValueError with the remedy where onnx or onnxruntime fail on a damaged file."""
    import onnxruntime
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    onnxruntime.set_default_logger_severity(3)
    damaged = (state.InvalidArgument, state.InvalidProtobuf, state.InvalidGraph, state.Fail)
    try:
        yield
    except (DecodeError, *damaged) as error:
        raise ValueError(
            f"{file} ({file.stat().st_size} bytes) is not a complete onnx model: "
            f"{unreadable(file, error)}. {remedy}"
        ) from error
