"""Run the jobs of a sweep on a SLURM cluster: submitit queues and requeues them.

submitit handles the signal before a job's time is up: a training that gets it saves its state and
passes the signal on (portraitlab/launching/perform.py), and submitit has SLURM requeue the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus

from portraitlab.launching.sweeping import SweepPlan
from portraitlab.runs.survey import look
from portraitlab.support.devices import device_count

# Settings of all submitit executors; the others belong to one of them.
_SHARED = ("timeout_min", "cpus_per_task", "mem_gb", "name", "stderr_to_stdout")


def tasks(trainers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the nodes, and the tasks and GPUs of each node, that all jobs of a sweep request.

    trainers: the settings of the jobs' trainers. Raises ValueError where they give no number of
    devices, or different ones: SLURM gets them as one array of jobs.
    """
    for trainer in trainers:
        device_count(trainer)  # for its errors
    requested = {
        (trainer["devices"], trainer["num_nodes"], trainer["accelerator"]) for trainer in trainers
    }
    if len(requested) > 1:
        raise ValueError(
            f"the jobs ask for {len(requested)} kinds of devices (trainer.devices, "
            f"trainer.num_nodes, trainer.accelerator: {sorted(requested, key=str)}); sweep each "
            "with a command of its own"
        )
    ((devices, nodes, accelerator),) = requested
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
    """Queue jobs of a plan, wait for each, and store its outcome in the plan.

    job: the function that submitit calls with a job's overrides. params: submitit's settings.
    """
    import submitit

    if not places:
        return

    # Set up submitit's executor.
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

    # Queue the jobs, with fresh=false: runs are deleted by now, and a requeued job must resume.
    own = [[*plan.overrides[place], "fresh=false"] for place in places]
    count, state = len(places), Singleton.get_state()
    queued = executor.map_array(
        job, own, ["hydra.sweep.dir"] * count, places, [str(p) for p in places], [state] * count
    )
    print(f"submitted: {', '.join(each.job_id for each in queued)}", flush=True)

    # Wait for each job and store its outcome.
    for place, each in zip(places, queued, strict=True):
        try:
            ended = each.results()[0]
            failed = ended.status is not JobStatus.COMPLETED
            error = str(ended._return_value) if failed else None
        except submitit.core.utils.UncompletedJobError:  # killed, stopped, or never run
            error = f"{each.state} (by {cluster}); the job's output is in {each.paths.folder}"
            if look(plan.jobs[place].run.folder).state == "preempted":
                error = None  # its status has the reason
        except submitit.core.utils.FailedJobError as crashed:
            error = str(crashed).strip().splitlines()[-1]
        plan.end(place, error)
