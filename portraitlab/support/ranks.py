"""How the batch of one step is divided among the processes that train together."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Which samples of a step's batch are this process's: every `processes`-th, from `rank` on.

    What a step draws is drawn by every process for the whole batch, and what it averages is
    averaged over the whole batch. So a training does not depend on how many processes share it,
    but for the rounding of sums.
    """

    rank: int = 0
    processes: int = 1

    def own(self, drawn: Tensor) -> Tensor:
        """This process's samples [B, ...] of the whole batch's [B · processes, ...]."""
        return drawn[self.rank :: self.processes]

    def places(self, chosen: Tensor) -> Tensor:
        """Which of this process's samples are among those chosen [n] of the whole batch."""
        return chosen[chosen % self.processes == self.rank] // self.processes

    def total(self, value: Tensor) -> Tensor:
        """The sum of all processes' values, without a gradient; all of them must ask for it."""
        total = value.detach().clone()
        if self.processes > 1:
            dist.all_reduce(total)
        return total


ALONE = Split()
"""One process has the whole batch."""
