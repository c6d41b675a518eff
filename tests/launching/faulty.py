"""Faults for jobs that are otherwise real: put in the place of a logger, which no key depends on.

Each is called as every choice of `logger` is, before a training begins.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from portraitlab.support.processes import process_rank


def leak_and_crash(settings: Mapping[str, Any], folder: Path, **_: Any) -> None:
    """Leave the process of seed 0 changed, with a live W&B run, and end that of seed 1.

    Other seeds check that theirs is as a job should find it.
    """
    import wandb

    if settings["seed"] == 0:
        wandb.init(mode="offline", dir=folder, id="leaked", settings=wandb.Settings(silent=True))
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(7)
        os.environ["PORTRAITLAB_LEAK"] = "1"
    elif settings["seed"] == 1:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of torch takes a minute
        os.kill(os.getpid(), signal.SIGSEGV)
    else:
        assert wandb.run is None, "a W&B run of another job is live"
        assert torch.get_default_dtype() is torch.float32
        assert "PORTRAITLAB_LEAK" not in os.environ
    return None


class FailingMirror:
    """Fails in the second step; there is one in the first process of a group only."""

    def line(self, line: Mapping[str, Any]) -> None:
        """Fail from the second step on."""
        if line["step"] > 1:
            raise RuntimeError("the first process failed alone")

    def close(self, error: BaseException | None = None) -> None:
        """Nothing to close."""


def fail_alone(settings: Mapping[str, Any], **_: Any) -> FailingMirror | None:
    """Fail in one process of a group, while the other waits for it.

    At seed 0 the first fails in a step, at seed 1 the second before the first step.
    """
    case = settings["seed"], process_rank()
    if case == (1, 1):
        raise RuntimeError("the second process failed alone")
    return FailingMirror() if case == (0, 0) else None


class Impatient(Callback):
    """Has submitit wait for no result of a job that SLURM says has ended."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set the number of seconds, which is 15 otherwise."""
        from submitit.core.core import Job

        Job._results_timeout_s = 0


def checked_threads(folder: Path, **_: Any) -> None:
    """Write down the number of threads that torch computes with, and the cores it may use."""
    cores = len(os.sched_getaffinity(0))
    (folder / "threads.txt").write_text(f"{torch.get_num_threads()} {cores}")
    return None
