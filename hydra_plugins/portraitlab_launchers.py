"""Hydra's way in to the launchers of portraitlab/launching/."""

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
    """Runs a sweep's jobs on this machine, `jobs` side by side, each in a process of its own.

    jobs: None is one on each core of a CPU.
    """

    def __init__(self, jobs: int | None) -> None:
        self.jobs = jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take in the sweep."""
        self.plan = _plan(config, hydra_context)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """The jobs' records, or the messages they ended with."""
        from portraitlab.launching.local import run_jobs

        with _outcomes(self.plan, job_overrides) as (places, returns):
            run_jobs(self.plan, places, self.jobs)
        return returns


class SlurmLauncher(BaseSubmititLauncher):
    """Has a sweep's jobs run by SLURM, one task for each GPU, and waits for them.

    cluster: submitit's name of what runs the jobs. params: submitit's settings.
    """

    def __init__(self, cluster: str, **params: Any) -> None:
        super().__init__(**params)
        self.cluster = cluster

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take in the sweep."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.plan = _plan(config, hydra_context)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """The jobs' records, or the messages they ended with."""
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
    """The places of jobs that are not done, to be run inside, and what became of all at the end.

    All as completed: Hydra would end the sweep with the first failure, before its table.
    """
    from portraitlab.support.errors import user_errors

    returns: list[JobReturn] = []
    with user_errors():
        places = plan.add(job_overrides)
        yield plan.missing(places), returns
    outcomes = [plan.jobs[place].outcome() for place in places]
    returns += [JobReturn(_return_value=each, status=JobStatus.COMPLETED) for each in outcomes]
