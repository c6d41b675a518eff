"""How many devices a job takes, and whether this process is already one of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def device_count(trainer: Mapping[str, Any]) -> int:
    """Processes that train together, one a device, as the trainer's settings ask for.

    On a CPU `devices` counts processes, and "auto" is one.
    """
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices)
    if devices not in ("auto", -1, "-1"):
        return int(devices)
    if trainer["accelerator"] == "cpu":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def is_rank() -> bool:
    """Whether torchrun or SLURM started this process as one of a group."""
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    return bool(TorchElasticEnvironment.detect() or SLURMEnvironment.detect())
