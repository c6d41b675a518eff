"""What the launchers of a sweep share: its jobs before it starts, and its table when it ends."""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import filter_overrides
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.runs.status import write_status
from portraitlab.runs.sweep import Sweep, SweepJob, sweep_group
from portraitlab.support.devices import device_count
from portraitlab.support.errors import ends_the_program
from portraitlab.support.lock import is_locked, locked
from portraitlab.tables.ending import end_of_table
from portraitlab.tables.paper_table import find_table, known_tables
from portraitlab.tables.results import results_by_content

# Tasks that end with a record of the job's own scoring.
_WITH_RECORD = ("train", "score")
_REPLAYED = (
    "every process of a job would run the whole sweep again; use launcher=local, which starts a "
    "group of processes for each job, or launcher=slurm"
)


class SweepPlan:
    """The jobs of a sweep, resolved before any of them starts.

    folder: of the sweep. jobs, settings and overrides: of each job, in the sweep's order; more are
    added where Hydra launches a long sweep in parts. Raises ValueError under torchrun.
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
        # A row that stands in several tables is run for one of them.
        tables = [] if table is None else [table, *known_tables()]
        self._published = results_by_content(find_table(name).folder for name in tables)

    def add(self, job_overrides: Sequence[Sequence[str]]) -> list[int]:
        """Take in jobs by their overrides and write sweep.json; returns their places.

        Raises ValueError where a job's configuration lacks a value, before anything started. With
        fresh=true, what the jobs would reuse is forgotten here, once.
        """
        places = []
        for overrides in job_overrides:
            settings = self._compose(overrides)
            task = settings["choices"]["task"]
            if task not in _WITH_RECORD:
                raise ValueError(
                    f"task={task} with -m: a sweep's table is of records, which only task="
                    f"{' and task='.join(_WITH_RECORD)} make; run the jobs one by one without -m"
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
        """Those of the places whose jobs have no record yet."""
        return [place for place in places if isinstance(self.jobs[place].outcome(), str)]

    @property
    def sweep(self) -> Sweep:
        """The sweep as far as it is planned."""
        return Sweep(self.folder, self.jobs)

    def _compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        loader = self._context.config_loader
        config = loader.load_sweep_config(self._config, list(overrides))
        HydraConfig.instance().set_config(config)  # the names of the choices are read from there
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
        training = settings["choices"]["task"] == "train"
        # A damaged record fails its own job, which says so, and not the sweep.
        if training and isinstance(job.outcome(), str) and not is_locked(job.run.folder):
            process = {"host": socket.gethostname(), "process": os.getpid()}
            write_status(job.run.folder, "queued", **process)


def refuse_replays(trainer: Mapping[str, Any], launcher: str) -> None:
    """ValueError where the processes of one job would each run the whole sweep.

    trainer: a job's settings. launcher: the class that started this process.
    """
    if device_count(trainer) > 1 and "portraitlab" not in launcher:
        raise ValueError(
            f"trainer.devices={trainer['devices']} with -m under {launcher}: {_REPLAYED}"
        )


class SweepEnd(Callback):
    """Prints the table of a sweep and where it lies, in the process that the user started.

    Ends it with exit code 1 where a job has no record, or there was no job.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the sweep's folder, and forget the list of jobs of the same command before."""
        folder = Path(config.hydra.sweep.dir)
        with ends_the_program():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "sweep.json").unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show it."""
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
        print(f"a page of it: portraitlab report {folder}")
        if any(isinstance(job.outcome(), str) for job in sweep.jobs):
            raise SystemExit(1)
