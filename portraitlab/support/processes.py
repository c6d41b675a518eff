"""Which process of a distributed training this is."""

from __future__ import annotations

import torch.distributed as dist
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities.rank_zero import rank_zero_only


def environment() -> ClusterEnvironment | None:
    """What started this process as one of a group; None where nothing did.

    torchrun before SLURM, in a job of which it may run. Two owners of requeueing would queue a job
    of SLURM twice, so Lightning is none.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None


def local_rank() -> int:
    """Which of this machine's processes it is, and so which of its devices it has."""
    group = environment()
    return 0 if group is None else group.local_rank()


def process_rank() -> int:
    """0 in the first or only process; known before a Trainer is built, from what launched it."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank


def process_count() -> int:
    """How many processes train together; known once a training began."""
    return dist.get_world_size() if dist.is_initialized() else 1
