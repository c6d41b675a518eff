"""Plan the jobs of a sweep before it starts, and show its table when it ends."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import filter_overrides
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from portraitlab.runs.key import plain
from portraitlab.runs.run import TRAINING_TASKS, Run
from portraitlab.runs.status import queue, withdraw
from portraitlab.runs.survey import look
from portraitlab.runs.sweep import Sweep, SweepJob, sweep_group
from portraitlab.support.devices import device_count
from portraitlab.support.errors import ends_the_program
from portraitlab.support.lock import is_locked, locked
from portraitlab.support.printing import shell_word
from portraitlab.tables.ending import end_of_table
from portraitlab.tables.paper_table import find_table, known_tables
from portraitlab.tables.results import results_by_content

# Tasks that write a record of the job's scoring.
_WITH_RECORD = (*TRAINING_TASKS, "score")
_REPLAYED = (
    "every process of a job would run the whole sweep again; use launcher=local, which starts a "
    "group of processes for each job, or launcher=slurm"
)


class SweepPlan:
    """The jobs of a sweep, resolved before any of them starts.

    folder: the sweep's. jobs, settings, overrides: one for each job, in the sweep's order; Hydra
    may launch a long sweep in parts, which add more. Raises ValueError under torchrun.
    """

    def __init__(self, config: DictConfig, context: HydraContext) -> None:
        if os.environ.get("TORCHELASTIC_RUN_ID"):
            raise ValueError(f"-m under torchrun: {_REPLAYED}")
        self.folder = Path(config.hydra.sweep.dir)
        self.jobs: list[SweepJob] = []
        self.settings: list[dict[str, Any]] = []
        self.overrides: list[Sequence[str]] = []
        self._config = config
        self._context = context
        table = config.hydra.sweeper.get("table")
        # A row of several tables is run for one of them only.
        tables = [] if table is None else [table, *known_tables()]
        self._published = results_by_content(find_table(name).folder for name in tables)

    def add(self, job_overrides: Sequence[Sequence[str]]) -> list[int]:
        """Add jobs by their overrides, write sweep.json, and return the jobs' places.

        With fresh=true, the jobs' runs are set aside once. Raises ValueError where a value is
        missing in a job's configuration, before any job starts.
        """
        places = []
        for overrides in job_overrides:
            settings = self._compose(overrides)
            task = settings["choices"]["task"]
            if task not in _WITH_RECORD:
                raise ValueError(
                    f"task={task} cannot be swept: a sweep tabulates records, which only task="
                    f"{' and task='.join(_WITH_RECORD)} write; run the jobs one by one without -m"
                )
            own = dict(text.split("=", 1) for text in filter_overrides(overrides))
            run = Run.of(settings, settings["task"].get("run"))
            names = {name.lstrip("+~"): value for name, value in own.items()}
            places.append(len(self.jobs))
            fresh = settings["fresh"]
            published = None if fresh else self._published.get((run.key, run.scoring))
            self.jobs.append(SweepJob(names, run, published=published))
            self.settings.append(settings)
            self.overrides.append(overrides)
        for place in places:
            self._prepare(self.jobs[place], self.settings[place])
        self.sweep.write()
        self.sweep.write_table()
        return places

    def missing(self, places: Sequence[int]) -> list[int]:
        """Select the places whose jobs have no record yet."""
        return [place for place in places if isinstance(self.jobs[place].outcome(), str)]

    def end(self, place: int, error: str | None) -> None:
        """Store how a job ended, and write the sweep and its table.

        error: None for a job that has its record or was stopped.
        """
        self.withdraw(place)
        self.jobs[place] = replace(self.jobs[place], error=error)
        self.sweep.write()
        self.sweep.write_table()

    def withdraw(self, place: int) -> None:
        """Put back the state of a run whose job ended or was left out before its first step."""
        folder = self.jobs[place].run.folder
        if not is_locked(folder) and look(folder).state != "preempted":
            with locked(folder):
                withdraw(folder)

    @property
    def sweep(self) -> Sweep:
        """The sweep with the jobs planned so far."""
        return Sweep(self.folder, self.jobs)

    def _compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        loader = self._context.config_loader
        config = loader.load_sweep_config(self._config, list(overrides))
        HydraConfig.instance().set_config(config)  # for the names of the choices
        own = copy.deepcopy(config)
        with open_dict(own):
            del own["hydra"]
            own.group = sweep_group(config.hydra.overrides.task, self.folder) or own.group
        return plain(own)

    def _prepare(self, job: SweepJob, settings: dict[str, Any]) -> None:
        if settings["fresh"]:
            with locked(job.run.folder):
                job.run.forget(settings["choices"]["task"])
            settings["fresh"] = False
        training = settings["choices"]["task"] in TRAINING_TASKS
        # The job of a damaged record makes it again.
        if training and isinstance(job.outcome(), str) and not is_locked(job.run.folder):
            queue(job.run.folder)


def refuse_replays(trainer: Mapping[str, Any], launcher: str) -> None:
    """Check that the processes of one job would not each run the whole sweep.

    trainer: a job's settings. launcher: the class that started this process. Raises ValueError
    where they would.
    """
    if device_count(trainer) > 1 and "portraitlab" not in launcher:
        raise ValueError(
            f"trainer.devices={trainer['devices']} with -m under {launcher}: {_REPLAYED}"
        )


class SweepEnd(Callback):
    """A callback that prints the table and folder of a sweep, in the process that the user started.

    The process ends with exit code 1 where a job has no record, or the sweep has no job.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the sweep's folder, and delete the list of jobs of an earlier same command."""
        folder = Path(config.hydra.sweep.dir)
        with ends_the_program():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "sweep.json").unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show the table."""
        with ends_the_program():
            self._show(config)

    def _show(self, config: DictConfig) -> None:
        folder = Path(config.hydra.sweep.dir)
        begun = (folder / "sweep.json").is_file()
        sweep = Sweep.read(folder) if begun else Sweep(folder, [])
        if not sweep.jobs:
            raise SystemExit(
                "this sweep has no job: a swept choice expands to nothing (a glob sees no "
                "subfolders); name the choices, as in fusion=refiner,concat"
            )
        sweep.write_table()
        name = config.hydra.sweeper.get("table")
        if name is None:
            sweep.table().show()
            print(f"sweep: {folder / 'sweep.md'}")
        else:
            folder = end_of_table(find_table(name), sweep, config.hydra.overrides.task)
        print(f"a page of it: portraitlab report {shell_word(folder)}")
        if any(isinstance(job.outcome(), str) for job in sweep.jobs):
            raise SystemExit(1)
