"""Shard the batch of one step over the processes that train together."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """A process's shard of a batch: samples rank, rank + processes, …

    Every process draws a step's random numbers for the whole batch, and means are over the whole
    batch. So a training does not depend on the number of processes, up to the rounding of sums.
    """

    rank: int = 0
    processes: int = 1

    def own(self, drawn: Tensor) -> Tensor:
        """Return this process's samples [B, ...] of the whole batch's [B · processes, ...]."""
        return drawn[self.rank :: self.processes]

    def places(self, chosen: Tensor) -> Tensor:
        """Convert chosen indices [n] of the whole batch to those among this process's samples."""
        return chosen[chosen % self.processes == self.rank] // self.processes

    def total(self, value: Tensor) -> Tensor:
        """Sum a value over all processes, without a gradient; all of them must call it."""
        total = value.detach().clone()
        if self.processes > 1:
            dist.all_reduce(total)
        return total


ALONE = Split()
"""The whole batch in one process."""
