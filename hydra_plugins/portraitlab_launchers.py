"""Hydra's way in to the launchers of portraitlab/launching/."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs a sweep's jobs on this machine, `jobs` side by side, each in a process of its own."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take in the sweep."""
        from portraitlab.launching.sweeping import SweepPlan

        self.plan = SweepPlan(config, hydra_context)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """The jobs' records, or the messages they ended with."""
        from portraitlab.launching.local import run_jobs

        places = self.plan.add(job_overrides)
        run_jobs(self.plan, places, self.jobs)
        returns = []
        for place in places:
            outcome = self.plan.jobs[place].outcome()
            status = JobStatus.FAILED if isinstance(outcome, str) else JobStatus.COMPLETED
            returns.append(JobReturn(_return_value=outcome, status=status))
        return returns
