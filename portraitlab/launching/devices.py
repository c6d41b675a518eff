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
    from portraitlab.processes import environment

    return environment() is not None


def check_group(trainer: Mapping[str, Any]) -> None:
    """ValueError where what was started is not what the trainer's settings ask for.

    Each process would else train alone, or wait for others that never come.
    """
    from portraitlab.processes import environment

    group, devices, nodes = environment(), device_count(trainer), trainer["num_nodes"]
    if group is None and nodes > 1:
        raise ValueError(
            f"trainer.num_nodes={nodes}, and this process was started on one. Start it on each by "
            f"torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d "
            "--rdzv-endpoint=FIRST_NODE:29500 run.py ..., or use -m launcher=slurm"
        )
    if group is not None and group.world_size() != devices * nodes:
        raise ValueError(
            f"{group.world_size()} processes were started, and trainer.devices={devices} on "
            f"trainer.num_nodes={nodes} are {devices * nodes}: start as many, a process for each "
            "device, or change these settings (trainer=ddp takes several)"
        )
