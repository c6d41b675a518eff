"""Run a job on several devices: a new process for each, started and watched by torchrun's agent.

Lightning instead runs the command again in every further process. In a sweep that replays the
sweep, and the group hangs where one process fails alone.
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
from portraitlab.runs.status import Preempted, write_failure
from portraitlab.support.errors import message


class GroupFailed(ValueError):
    """A process of a group failed, and the others were stopped."""


def perform_in_group(settings: dict[str, Any], run: Run, devices: int) -> dict[str, Any]:
    """Run the settings' task in one process a device and return its result.

    Raises GroupFailed with the first failure of a process, Preempted where a signal or
    trainer.max_time stopped them.
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
    # Silence the agent, which prints the traceback of each process: status.json has the first.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)

    # Run the processes and pass on the first failure or signal.
    try:
        results = elastic_launch(launch, _rank)(settings)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        text, trace = failure.message, str(error)
        if isinstance(text, dict):
            text, trace = text["message"], text["extraInfo"]["py_callstack"]
        reason = f"process {rank} of {devices}: {text.removeprefix('ValueError: ')}"
        # The process that writes the status was stopped or killed, so write it here.
        write_failure(run.folder, reason, traceback=trace)
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
        # Divide the cores among the processes of this machine.
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))
    config = OmegaConf.create(settings)
    try:
        result: dict[str, Any] = instantiate(config.task)(config)
    except Preempted as stop:
        return stop  # all stop after the same step; an exit code would count as a failure
    except Exception as error:
        text = message(error)
        if text is not None:
            raise ValueError(text) from error
        raise
    return result
