"""Divide a machine's cores and GPUs among parallel jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portraitlab.support.checks import check_whole
from portraitlab.support.devices import device_count


@dataclass(frozen=True)
class Share:
    """Cores and GPUs of a job; None is all of the machine's.

    cores: numbers. gpus: entries of CUDA_VISIBLE_DEVICES.
    """

    cores: tuple[int, ...] | None = None
    gpus: tuple[str, ...] | None = None

    def take(self) -> None:
        """Restrict this process, and those it starts, to the share; call before torch computes."""
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        if self.cores is not None:
            import torch

            os.environ["OMP_NUM_THREADS"] = str(len(self.cores))
            os.sched_setaffinity(0, self.cores)
            torch.set_num_threads(len(self.cores))


def shares(jobs: int | None, trainers: list[Mapping[str, Any]]) -> list[Share]:
    """Divide this machine into one share for each parallel job; a single share is all of it.

    jobs: None is one job a core on a CPU (or one core for each of a job's processes), so that
    figures do not depend on the number of jobs left, and a single job on GPUs. trainers: the
    trainer settings of all jobs. Raises ValueError where there are fewer cores than jobs, or fewer
    GPUs than the jobs need together.
    """
    # By default, give each job as many cores as it has processes, or the whole machine.
    most = max(device_count(trainer) for trainer in trainers)
    gpus = visible_gpus() if any(trainer["accelerator"] != "cpu" for trainer in trainers) else []
    if jobs is None:
        numbers = sorted(os.sched_getaffinity(0))
        if gpus or most > len(numbers):
            return [Share()]
        starts = range(0, len(numbers) - most + 1, most)
        return [Share(tuple(numbers[start : start + most])) for start in starts]

    # Else divide the cores, and GPUs if the jobs use them, into `jobs` shares.
    if check_whole("jobs", jobs, hint="; give one as jobs=NUMBER") == 1:
        return [Share()]
    cores = len(os.sched_getaffinity(0))
    if jobs > cores:
        raise ValueError(
            f"jobs={jobs} is more than the {cores} cores of this machine; take jobs={cores} or "
            "fewer"
        )
    split = split_cores(jobs)
    if not gpus:
        return [Share(part) for part in split]
    if jobs * most > len(gpus):
        raise ValueError(
            f"jobs={jobs} with {most} devices each need more than the {len(gpus)} GPUs; "
            f"take jobs={max(1, len(gpus) // most)} or fewer"
        )
    return [
        Share(part, tuple(gpus[number * most : (number + 1) * most]))
        for number, part in enumerate(split)
    ]


def split_cores(count: int) -> list[tuple[int, ...]]:
    """Split the numbers of this machine's cores into `count` equal parts."""
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // count
    return [tuple(cores[number * each : (number + 1) * each]) for number in range(count)]


def visible_gpus() -> list[str]:
    """List the GPUs that torch sees, by their names in CUDA_VISIBLE_DEVICES."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return given.split(",")[:count] if given else [str(number) for number in range(count)]
