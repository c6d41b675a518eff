"""Hydra plugins for the launchers of portraitlab/launching/."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import DictConfig

if TYPE_CHECKING:
    from portraitlab.launching.sweeping import SweepPlan


class LocalLauncher(Launcher):
    """A launcher of a sweep's jobs on this machine: `jobs` in parallel, a process each.


    jobs: None runs one on each core of a CPU.
    """

    def __init__(self, jobs: int | None) -> None:
        self.jobs = jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Plan the sweep."""
        self.plan = _plan(config, hydra_context)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return their records, or the messages that they ended with."""
        from portraitlab.launching.local import run_jobs

        with _outcomes(self.plan, job_overrides) as (places, returns):
            run_jobs(self.plan, places, self.jobs)
        return returns


class SlurmLauncher(BaseSubmititLauncher):
    """A launcher of a sweep's jobs on SLURM, one task for each GPU; it waits for them.

    cluster: submitit's name of the scheduler. params: submitit's settings.
    """

    def __init__(self, cluster: str, **params: Any) -> None:
        super().__init__(**params)
        self.cluster = cluster

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Plan the sweep."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.plan = _plan(config, hydra_context)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return their records, or the messages that they ended with."""
        from portraitlab.launching.slurm import submit

        with _outcomes(self.plan, job_overrides) as (places, returns):
            submit(self, self.plan, places, self.cluster, self.params)
        return returns


def _plan(config: DictConfig, context: HydraContext) -> SweepPlan:
    from portraitlab.launching.sweeping import SweepPlan
    from portraitlab.support.errors import user_errors

    with user_errors():
        return SweepPlan(config, context)


@contextmanager
def _outcomes(
    plan: SweepPlan, job_overrides: Sequence[Sequence[str]]
) -> Iterator[tuple[list[int], list[JobReturn]]]:
    """Yield the places of unfinished jobs, to be run inside `with`, and a list of all outcomes.

    The list is filled at the end. Failed jobs are returned as completed: Hydra would end the sweep
    at the first failure, before its table.
    """
    from portraitlab.support.errors import user_errors

    returns: list[JobReturn] = []
    with user_errors():
        places = plan.add(job_overrides)
        try:
            yield plan.missing(places), returns
        except Exception:  # no job is run, such as with more of them than there are cores
            for place in places:
                plan.withdraw(place)
            raise
    outcomes = [plan.jobs[place].outcome() for place in places]
    returns += [JobReturn(_return_value=each, status=JobStatus.COMPLETED) for each in outcomes]
