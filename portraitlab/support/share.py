"""Each of several jobs' share of a machine: its cores, and its GPUs where it trains on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portraitlab.support.devices import device_count


@dataclass(frozen=True)
class Share:
    """What a job may use; None is all there is.

    cores: their numbers. gpus: values of CUDA_VISIBLE_DEVICES.
    """

    cores: tuple[int, ...] | None = None
    gpus: tuple[str, ...] | None = None

    def take(self) -> None:
        """Keep this process, and all that it starts, to the share. Before torch computes."""
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        if self.cores is not None:
            import torch

            os.environ["OMP_NUM_THREADS"] = str(len(self.cores))
            os.sched_setaffinity(0, self.cores)
            torch.set_num_threads(len(self.cores))


def shares(jobs: int | None, trainers: list[Mapping[str, Any]]) -> list[Share]:
    """As many shares of this machine as jobs run side by side; one alone is all of it.

    jobs: None is as many on a CPU as there are cores, each on one (or on one a process), so that
    figures do not depend on how many jobs are left; and one where GPUs are used. trainers: the
    settings of all jobs' trainers. Raises ValueError where there are fewer cores than jobs, or
    fewer GPUs than the jobs ask for together.
    """
    most = max(device_count(trainer) for trainer in trainers)
    gpus = visible_gpus() if any(trainer["accelerator"] != "cpu" for trainer in trainers) else []
    if jobs is None:
        own = sorted(os.sched_getaffinity(0))
        if gpus or most > len(own):
            return [Share()]
        starts = range(0, len(own) - most + 1, most)
        return [Share(tuple(own[start : start + most])) for start in starts]
    if type(jobs) is not int or jobs < 1:
        raise ValueError(f"jobs={jobs}: a whole number from 1 is needed; give one as jobs=NUMBER")
    if jobs == 1:
        return [Share()]
    cores = len(os.sched_getaffinity(0))
    if jobs > cores:
        raise ValueError(
            f"jobs={jobs}, and there are {cores} cores: no job may have less than one; "
            f"take jobs={cores} or fewer"
        )
    split = split_cores(jobs)
    if not gpus:
        return [Share(own) for own in split]
    if jobs * most > len(gpus):
        raise ValueError(
            f"jobs={jobs} with {most} devices each, and there are {len(gpus)} GPUs; "
            f"take jobs={max(1, len(gpus) // most)} or fewer"
        )
    return [
        Share(own, tuple(gpus[number * most : (number + 1) * most]))
        for number, own in enumerate(split)
    ]


def split_cores(count: int) -> list[tuple[int, ...]]:
    """The numbers of this machine's cores for each of `count`, who all have as many."""
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // count
    return [tuple(cores[number * each : (number + 1) * each]) for number in range(count)]


def visible_gpus() -> list[str]:
    """The GPUs that torch sees, by the names that CUDA_VISIBLE_DEVICES gives them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return given.split(",")[:count] if given else [str(number) for number in range(count)]
