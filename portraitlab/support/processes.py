"""Rank and number of this process in a distributed training."""

from __future__ import annotations

import os

import torch.distributed as dist
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities.rank_zero import rank_zero_only


def environment() -> ClusterEnvironment | None:
    """Return the environment that started this process as one of a group; None where it is alone.

    torchrun is checked before SLURM, since it may run in a SLURM job. SLURM starts a group as the
    tasks of a step (srun); the script of an allocation (sbatch, salloc) is alone, though its
    variables name the allocation's tasks. Lightning does not requeue: a job would be queued twice
    if two programs did.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return SLURMEnvironment(auto_requeue=False) if tasks > 1 else None


def local_rank() -> int:
    """Return this process's number on its machine, and so the number of its device."""
    group = environment()
    return 0 if group is None else group.local_rank()


def process_rank() -> int:
    """Return the rank, 0 in the first or only process; known before a Trainer is built."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank


def process_count() -> int:
    """Return the number of processes that train together; known once a training has begun."""
    return dist.get_world_size() if dist.is_initialized() else 1
