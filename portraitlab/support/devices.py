"""Count the devices of a job, and check them against the processes that were started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portraitlab.support.checks import check_whole


def device_count(trainer: Mapping[str, Any]) -> int:
    """Count the processes that train together, one a device, by the trainer's settings.

    On a CPU `devices` is the number of processes, and "auto" is one. Raises ValueError for anything
    but a number, such as a list: GPUs are selected by CUDA_VISIBLE_DEVICES.
    """
    devices = trainer["devices"]
    if devices and isinstance(devices, Sequence) and not isinstance(devices, str):
        raise ValueError(
            f"trainer.devices={devices} lists devices; give their number, trainer.devices="
            f"{len(devices)}, and choose them by "
            f"CUDA_VISIBLE_DEVICES={','.join(map(str, devices))} before the command"
        )
    on_cpu = trainer["accelerator"] == "cpu"
    if devices == "auto" or (devices in (-1, "-1") and not on_cpu):
        if on_cpu:
            return 1
        import torch

        return max(1, torch.cuda.device_count())
    return check_whole("trainer.devices", devices, hint="; auto is all there are")


def is_rank() -> bool:
    """Return True if torchrun or SLURM started this process as one of a group."""
    from portraitlab.support.processes import environment

    return environment() is not None


def check_group(trainer: Mapping[str, Any]) -> None:
    """Check that as many processes were started as the trainer's settings require.

    Otherwise each would train alone, or wait for others that never start. Raises ValueError.
    """
    from portraitlab.support.processes import environment

    group, devices = environment(), device_count(trainer)
    nodes = check_whole("trainer.num_nodes", trainer["num_nodes"])
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


def check_batch(batch_size: int, devices: int) -> None:
    """Check that devices (of all nodes) share a batch evenly. Raises ValueError otherwise."""
    if check_whole("batch_size", batch_size) % devices:
        raise ValueError(
            f"batch_size={batch_size} does not divide by {devices} devices; "
            f"take a multiple of {devices}."
        )
