"""What a sweep adds to its jobs: one table over them, in its folder and on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from portraitlab.records import write_text
from portraitlab.tables.scores import sweep_table


@dataclass(frozen=True)
class Failure:
    """Why a job of a sweep has no record; the sweep goes on."""

    message: str


class SweepTable(Callback):
    """Writes sweep.md and sweep.csv after every job, so that a stopped sweep keeps its rows.

    Ends the process with exit code 1 where a job failed or there was none.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[dict[str, str], Mapping[str, Any] | str]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Take in a job's record or failure."""
        overrides = dict(text.split("=", 1) for text in job_return.overrides or ())
        if job_return.status is not JobStatus.COMPLETED:
            result: Mapping[str, Any] | str = repr(job_return._return_value)
        elif isinstance(job_return.return_value, Failure):
            result = job_return.return_value.message
        else:
            result = job_return.return_value
        self.rows.append(({name.lstrip("+~"): value for name, value in overrides.items()}, result))
        folder = Path(config.hydra.sweep.dir)
        if "MULTIRUN" in str(config.hydra.mode):
            table = sweep_table(self.rows)
            write_text(folder / "sweep.md", table.markdown())
            write_text(folder / "sweep.csv", table.csv())

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table and where it lies."""
        if not self.rows:
            raise SystemExit(
                "this sweep has no job: a swept choice expands to nothing (a glob sees no "
                "subfolders); name the choices, as in fusion=refiner,concat"
            )
        sweep_table(self.rows).show()
        print(f"sweep: {Path(config.hydra.sweep.dir) / 'sweep.md'}")
        if any(isinstance(result, str) for _, result in self.rows):
            raise SystemExit(1)


def refuse_many_devices(devices: int | str, launcher: str) -> None:
    """ValueError where a sweep's own process would start further ones: each would replay the sweep.

    devices: of one job, as trainer.devices says it.
    """
    if devices != 1 and launcher.endswith("BasicLauncher"):
        raise ValueError(
            f"trainer.devices={devices} with -m: every process of a job would run the whole sweep "
            "again; sweep with trainer.devices=1, or run the jobs one by one without -m"
        )
