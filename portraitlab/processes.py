"""Which process of a distributed training this is."""

from __future__ import annotations

import torch.distributed as dist
from lightning.pytorch.utilities.rank_zero import rank_zero_only


def process_rank() -> int:
    """0 in the first or only process; known before a Trainer is built, from what launched it."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank


def process_count() -> int:
    """How many processes train together; known once a training began."""
    return dist.get_world_size() if dist.is_initialized() else 1
