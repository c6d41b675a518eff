"""Opens onnx files, with the hardware that runs them said and every broken file explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def check_providers(providers: Sequence[str], setting: str) -> None:
    """Raises ValueError where this onnxruntime lacks one of the execution providers asked for."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing:
        raise ValueError(
            f"{setting} has {', '.join(missing)}, but this onnxruntime only offers "
            f"{', '.join(available)}."
        )


@contextmanager
def damage_explained(file: Path, remedy: str) -> Iterator[None]:
    """What onnx and onnxruntime raise on a damaged file becomes a ValueError with the remedy."""
    import onnxruntime
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    onnxruntime.set_default_logger_severity(3)
    damaged = (state.InvalidArgument, state.InvalidProtobuf, state.InvalidGraph, state.Fail)
    try:
        yield
    except (DecodeError, *damaged) as error:
        raise ValueError(
            f"{file} ({file.stat().st_size} bytes) is no complete onnx model: {error}. {remedy}"
        ) from error
