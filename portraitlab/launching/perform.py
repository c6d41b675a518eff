"""Run one job with its run locked, in this process or in one process a device."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from portraitlab.runs.key import plain
from portraitlab.runs.run import TRAINING_TASKS, Run
from portraitlab.runs.status import Preempted, withdraw
from portraitlab.support.devices import check_batch, check_group, device_count, is_rank
from portraitlab.support.lock import locked
from portraitlab.support.processes import process_rank
from portraitlab.training.trainer import check_trainer


def perform(config: DictConfig) -> dict[str, Any]:
    """Run a configuration's task and return its result; {} in a group's further processes.

    The run is locked meanwhile; task=cost has no run. Raises the errors of the task. A task that
    fails before its first step leaves no new run, and the state of an existing one as it was.
    """
    if config.choices.task == "cost":  # has no run, and reads no files that a setting must name
        counted: dict[str, Any] = instantiate(config.task)(config)
        return counted

    # Check the settings.
    settings = plain(config)
    run = Run.of(settings, settings["task"].get("run"))
    rank = is_rank()
    if rank and settings["fresh"]:
        raise ValueError(
            "fresh=true cannot be used under torchrun or srun, where one process would delete "
            "files that another reads; start run.py itself, which starts a process for each "
            "device, or use launcher=slurm"
        )
    devices, task = device_count(settings["trainer"]), settings["choices"]["task"]
    trains = task in TRAINING_TASKS
    if trains:
        check_trainer(settings["trainer"], settings["budget"]["steps"])
        check_group(settings["trainer"])
        check_batch(settings["batch_size"], devices * settings["trainer"]["num_nodes"])

    # Run the task, alone on the run.
    try:
        with _alone(run) if process_rank() == 0 else nullcontext():
            if settings["fresh"]:
                run.forget(task)
                config.fresh = settings["fresh"] = False
            if devices > 1 and not rank and trains:
                from portraitlab.launching.group import perform_in_group

                return perform_in_group(settings, run, devices)
            result: dict[str, Any] = instantiate(config.task)(config)
            return result
    except Preempted as stop:
        if stop.signum == signal.SIGUSR2:
            # All is saved. The previous handler of this signal (submitit's) requeues the job;
            # without one, as on a terminal, the process ends.
            os.kill(os.getpid(), signal.SIGUSR2)
        raise
    except Exception:
        if (run.folder / "status.json").is_file() and not rank:
            print(f"run: {run.folder}", flush=True)  # the traceback is in its status.json
        raise


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Lock the run; where the task fails before its first step, put back the run's state."""
    with locked(run.folder):
        try:
            yield
        except Exception:
            withdraw(run.folder)
            raise
