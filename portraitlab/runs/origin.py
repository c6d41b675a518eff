"""The origin of a run: its code, libraries and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    *("torch", "lightning", "diffusers", "transformers", "torchmetrics", "hydra-core", "omegaconf"),
    *("clean-fid", "numpy"),
)


def origin() -> dict[str, Any]:
    """Collect commit, versions and hardware, as plain JSON content."""
    return {
        "commit": commit(Path(__file__).parent),
        "versions": {
            "portraitlab": version("portraitlab"),
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        "machine": machine(),
    }


def commit(folder: Path) -> str | None:
    """Return the checked-out commit of a folder's repository, with `+changes` for changed files.

    None outside a repository, or without git.
    """
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+changes" if changed else head


def machine() -> dict[str, Any]:
    """Describe the processor, the cores that this process may use, and the GPUs."""
    import torch

    cuda = range(torch.cuda.device_count())
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(number) for number in cuda],
    }


def place(made: Mapping[str, Any]) -> str:
    """Name the machine of an origin briefly: its GPUs, else its processor and cores."""
    on = made["machine"]
    cores = "1 core" if on["cores"] == 1 else f"{on['cores']} cores"
    return ", ".join(on["gpus"]) or f"{on['processor']}, {cores}"


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return ended.stdout.strip()
