"""A job on several devices: a fresh process for each, started and watched by torchrun's agent.

Lightning's own way is to run the command again in every further process, which in a sweep replays
the sweep, and lets the group hang where one process fails alone.
"""

from __future__ import annotations

import logging
import os
import uuid
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from portraitlab.launching.console import console_logging
from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted, write_status
from portraitlab.support.errors import message


class GroupFailed(ValueError):
    """A process of a group failed, and the others were stopped."""


def perform_in_group(settings: dict[str, Any], run: Run, devices: int) -> dict[str, Any]:
    """The result of the settings' task, done by as many processes as devices.

    Raises GroupFailed with the first failure of them, Preempted where a signal or trainer.max_time
    stopped them.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="spawn",
    )
    # Its agent prints the traceback of each process; one message is said, and status.json has all.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        results = elastic_launch(launch, _rank)(settings)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        said, trace = failure.message, str(error)
        if isinstance(said, dict):
            said, trace = said["message"], said["extraInfo"]["py_callstack"]
        reason = f"process {rank} of {devices}: {said.removeprefix('ValueError: ')}"
        # The process that keeps the status was stopped, or died without a word.
        write_status(run.folder, "failed", error=reason, traceback=trace)
        raise GroupFailed(reason) from error
    except SignalException as error:
        raise Preempted(int(error.sigval), error.sigval.name) from error
    result: dict[str, Any] | Preempted = results[0]
    if isinstance(result, Preempted):
        raise result
    return result


def _rank(settings: dict[str, Any]) -> dict[str, Any] | Preempted:
    import torch

    console_logging()
    if settings["trainer"]["accelerator"] == "cpu":
        # Threads of all processes together are as many as there are cores.
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))
    config = OmegaConf.create(settings)
    try:
        result: dict[str, Any] = instantiate(config.task)(config)
    except Preempted as stop:
        return stop  # all stop after one step; with an exit code the first to end fails the group
    except Exception as error:
        said = message(error)
        if said is not None:
            raise ValueError(said) from error
        raise
    return result
