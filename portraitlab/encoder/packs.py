"""Finds and loads packs of onnx face models as insightface lays them out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)

_POINTER = b"version https://git-lfs"


def find_pack(root: Path, name: str | None) -> Path:
    """The folder that holds a pack's onnx files.

    root: holds `models/<pack>/`, or `<pack>/`, or the onnx files themselves. name: which pack; may
    be None, and then the first by name is taken and, where there are others, that is logged. A
    pack in a folder of its own name once more, as the published antelopev2 unpacks, is found too.
    Raises ValueError where there is none, or none of this name, with the packs to choose from.
    """
    if not root.is_dir():
        raise ValueError(
            f"encoder.root={root} is no folder; give the folder that holds models/<pack>/*.onnx."
        )
    if any(root.glob("*.onnx")):
        packs = {root.resolve().name: root}
    else:
        place = root / "models" if (root / "models").is_dir() else root
        folders = {folder.name: folder for folder in sorted(place.iterdir()) if folder.is_dir()}
        nested = {key: folder / key for key, folder in folders.items()}
        packs = {
            key: found
            for key, folder in folders.items()
            for found in (folder, nested[key])
            if any(found.glob("*.onnx"))
        }
    if not packs:
        raise ValueError(
            f"encoder.root={root} holds no pack: no *.onnx in it, in {root}/<pack> "
            f"or in {root}/models/<pack>."
        )
    if name is None:
        name = min(packs)
        if len(packs) > 1:
            _LOG.warning(
                "encoder.root=%s holds the packs %s: %s is taken; encoder.name chooses another",
                root, ", ".join(packs), name,
            )  # fmt: skip
    if name not in packs:
        raise ValueError(
            f"encoder.name={name} is not in encoder.root={root}, which holds the packs "
            f"{', '.join(packs)}; choose one of them."
        )
    return packs[name]


def load_pack(pack: Path, tasks: tuple[str, ...], providers: list[str]) -> dict[str, Any]:
    """Load one model for each of insightface's tasks ("detection", "recognition") of a pack.

    providers: onnxruntime's execution providers, best first; what really runs is logged. Raises
    ValueError where a file is a Git LFS pointer or damaged, where onnxruntime lacks a provider, or
    where a task has no model.
    """
    import onnxruntime
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from insightface.model_zoo import model_zoo
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    available = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing:
        raise ValueError(
            f"encoder.providers has {', '.join(missing)}, but this onnxruntime only offers "
            f"{', '.join(available)}."
        )
    files = sorted(pack.glob("*.onnx"))
    pointers = [file.name for file in files if file.read_bytes()[:64].startswith(_POINTER)]
    if pointers:
        raise ValueError(
            f"In the pack {pack}, {', '.join(pointers)} are Git LFS pointers of about 130 bytes, "
            "not weights: the download was not completed. Fetch them with `git lfs pull`, "
            "or download the pack again."
        )
    onnxruntime.set_default_logger_severity(3)
    damaged = (state.InvalidArgument, state.InvalidProtobuf, state.InvalidGraph, state.Fail)
    models: dict[str, Any] = {}
    for file in files:
        try:
            model = model_zoo.get_model(str(file), providers=providers)
        except (DecodeError, *damaged) as error:
            raise ValueError(
                f"{file} ({file.stat().st_size} bytes) is no complete onnx model: {error}. "
                "Download the pack again."
            ) from error
        if model is not None and model.taskname in tasks and model.taskname not in models:
            models[model.taskname] = model
            ran = ", ".join(model.session.get_providers())
            _LOG.info("%s: %s of the pack %s runs on %s", model.taskname, file.name, pack.name, ran)
    for task in tasks:
        if task not in models:
            names = ", ".join(file.name for file in files)
            raise ValueError(f"The pack {pack} has no model for {task}, only {names}.")
    return models
