"""Jobs of a sweep on a SLURM cluster: submitit queues them, and queues them again.

submitit owns the signal before a job's time is up: a training that gets it saves its state and
hands the signal on (portraitlab/launching/perform.py), and submitit has SLURM requeue the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus

from portraitlab.launching.sweeping import SweepPlan
from portraitlab.runs.status import read_status
from portraitlab.support.devices import device_count

# What submitit's executors share; other settings are of one of them.
_SHARED = ("timeout_min", "cpus_per_task", "mem_gb", "name", "stderr_to_stdout")


def tasks(trainers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Nodes, and tasks and GPUs of each node, that all jobs of a sweep have in common.

    trainers: the settings of the jobs' trainers. Raises ValueError where they do not say how many,
    or ask for different ones: they are one array of jobs.
    """
    for trainer in trainers:
        device_count(trainer)  # for what it raises
    asked = {
        (trainer["devices"], trainer["num_nodes"], trainer["accelerator"]) for trainer in trainers
    }
    if len(asked) > 1:
        raise ValueError(
            f"the jobs ask for {len(asked)} kinds of devices (trainer.devices, trainer.num_nodes, "
            f"trainer.accelerator: {sorted(asked, key=str)}); sweep each with a command of its own"
        )
    ((devices, nodes, accelerator),) = asked
    if type(devices) is not int or devices < 1:
        raise ValueError(
            f"trainer.devices={devices} with launcher=slurm: SLURM must know how many tasks a node "
            "gets; give the number of its GPUs as trainer.devices=NUMBER"
        )
    counts = {"nodes": nodes, "tasks_per_node": devices}
    return counts if accelerator == "cpu" else {**counts, "gpus_per_node": devices}


def submit(
    job: Callable[..., Any],
    plan: SweepPlan,
    places: Sequence[int],
    cluster: str,
    params: Mapping[str, Any],
) -> None:
    """Queue jobs of a plan and wait until each has ended; how it ended is kept in the plan.

    job: what submitit calls with a job's overrides. params: submitit's settings.
    """
    import submitit

    if not places:
        return
    settings = dict(params)
    executor = submitit.AutoExecutor(
        folder=f"{settings.pop('submitit_folder')}/%j",
        cluster=cluster,
        **{f"{cluster}_max_num_timeout": settings.pop("max_num_timeout")},
    )
    executor.update_parameters(
        **tasks([plan.settings[place]["trainer"] for place in places]),
        **{name if name in _SHARED else f"slurm_{name}": each for name, each in settings.items()},
    )
    # What fresh=true forgets is forgotten; a job that is queued again is to go on.
    own = [[*plan.overrides[place], "fresh=false"] for place in places]
    count, state = len(places), Singleton.get_state()
    queued = executor.map_array(
        job, own, ["hydra.sweep.dir"] * count, places, [str(p) for p in places], [state] * count
    )
    print(f"submitted: {', '.join(each.job_id for each in queued)}", flush=True)
    for place, each in zip(places, queued, strict=True):
        try:
            ended = each.results()[0]
            failed = ended.status is not JobStatus.COMPLETED
            error = str(ended._return_value) if failed else None
        except submitit.core.utils.UncompletedJobError:  # killed, stopped, or never run
            status = read_status(plan.jobs[place].run.folder)
            error = f"{each.state} as {cluster} says; the job's output lies in {each.paths.folder}"
            if status is not None and status["state"] == "preempted":
                error = None  # its status says why
        except submitit.core.utils.FailedJobError as crashed:
            error = str(crashed).strip().splitlines()[-1]
        plan.jobs[place] = replace(plan.jobs[place], error=error)
        plan.sweep.write()
        plan.sweep.write_table()
