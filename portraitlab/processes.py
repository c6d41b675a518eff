"""Which process of a distributed training this is."""

from __future__ import annotations

from lightning.pytorch.utilities.rank_zero import rank_zero_only


def process_rank() -> int:
    """0 in the first or only process; known before a Trainer is built, from what launched it."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank
