"""Hydra plugin for the papers' tables: a sweep over a table's rows and seeds."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class TableSweeper(Sweeper):
    """A sweeper over the jobs of a paper's table that a command selects.

    table: PAPER/TABLE, the table's folder below experiments/.
    """

    def __init__(self, table: str) -> None:
        self.table = table

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Create the launcher."""
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the missing jobs; the callback at the end of every sweep shows the table."""
        from portraitlab.support.errors import user_errors
        from portraitlab.tables.choosing import choose
        from portraitlab.tables.paper_table import find_table

        with user_errors():
            jobs = choose(find_table(self.table), arguments)
        assert self.launcher is not None
        return [self.launcher.launch([job.overrides for job in jobs], initial_job_idx=0)]
