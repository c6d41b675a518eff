"""What a page tells of: the rows of a sweep, or the one row of a run, read from their folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from portraitlab.runs.records import Record, swept_names
from portraitlab.runs.run import Run
from portraitlab.runs.status import read_status
from portraitlab.runs.sweep import Sweep, SweepJob
from portraitlab.support.files import DamagedFile
from portraitlab.tables.report.differences import NO_DIFFERENCE, flattened
from portraitlab.training.logged import read_losses

# What tells a run from others where no sweep says which settings vary.
_TOLD = ("fusion", "cond", "net", "refs", "seed")


@dataclass(frozen=True)
class Row:
    """One job: its settings, and all that is known of its run.

    number: its place, from 1. record: None where there is none, and then message says why.
    state: done, no record, failed, running, queued, preempted, not begun, or unknown where
    status.json is damaged. configuration: values by dotted path. losses: the lines of
    metrics.jsonl. remarks: files that could not be read.
    """

    number: int
    settings: Mapping[str, str]
    run: Run
    record: Record | None
    message: str
    state: str
    status: Mapping[str, Any]
    configuration: Mapping[str, str]
    losses: Sequence[Mapping[str, Any]]
    remarks: Sequence[str]

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """The record's metrics; none where there is no record."""
        return {} if self.record is None else self.record["metrics"]

    @property
    def bounds(self) -> Mapping[str, Mapping[str, Any]]:
        """What the record's figures lie between."""
        return {} if self.record is None else self.record["bounds"]


@dataclass(frozen=True)
class Report:
    """Rows that are read side by side.

    kind: sweep or run. name: of the folder.
    """

    kind: str
    name: str
    rows: Sequence[Row]

    @property
    def swept(self) -> list[str]:
        """Names of the settings that differ between rows; all of them where none does."""
        return swept_names([row.settings for row in self.rows])

    @property
    def fixed(self) -> dict[str, str]:
        """The settings that the command gave to all rows alike."""
        swept = self.swept
        return {n: v for n, v in self.rows[0].settings.items() if n not in swept}

    @property
    def metrics(self) -> dict[str, Mapping[str, Any]]:
        """The metrics of any row by name, in the records' order, as the first row has them."""
        found: dict[str, Mapping[str, Any]] = {}
        for row in self.rows:
            for name, metric in row.metrics.items():
                found.setdefault(name, metric)
        return found

    def label(self, row: Row) -> str:
        """A row's number and what was swept, short enough for a chart."""
        return f"{row.number}: {' · '.join(row.settings.get(name, '–') for name in self.swept)}"


def read_report(path: Path) -> Report:
    """The sweep or the run that lies in a folder.

    Raises ValueError where there is neither, or what tells of it is damaged. Files of single rows
    that are damaged become remarks.
    """
    if (path / "sweep.json").is_file():
        jobs = _sweep(path).jobs
        if not jobs:
            raise ValueError(f"the sweep in {path} has no jobs; run its command again")
        return Report("sweep", path.resolve().name, [_row(n, j) for n, j in enumerate(jobs, 1)])
    if (path / "config.yaml").is_file():
        return Report("run", path.resolve().name, [_row_of_run(path)])
    raise ValueError(
        f"{path} holds neither a sweep nor a run nor a table: there is no sweep.json, config.yaml "
        "or table.yaml in it; give a folder of runs/sweeps, the folder of a run, or one of a table"
    )


def _sweep(folder: Path) -> Sweep:
    try:
        return Sweep.read(folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(
            f"{folder / 'sweep.json'} is damaged (it lists no jobs as a sweep does: {error!r}); "
            "delete the file and run the same command again"
        ) from error


def _row_of_run(folder: Path) -> Row:
    try:
        settings: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        run = Run.of(settings, str(folder))
        told = {**settings["choices"], "refs": settings["refs"], "seed": settings["seed"]}
    except (YAMLError, KeyError, TypeError, OSError) as error:
        raise DamagedFile(
            f"{folder / 'config.yaml'} is damaged ({error}); run the same command again"
        ) from error
    return _row(1, SweepJob({name: str(told[name]) for name in _TOLD}, run))


def _row(number: int, job: SweepJob) -> Row:
    outcome = job.outcome()
    record = None if isinstance(outcome, str) else outcome
    own = {n: v for n, v in job.overrides.items() if n.split(".")[0] not in NO_DIFFERENCE}
    status = _status(job.run)
    remarks: list[str] = []
    return Row(
        number=number,
        settings=own or {"run": job.run.folder.name},
        run=job.run,
        record=record,
        message=outcome if isinstance(outcome, str) else "",
        state="done" if record is not None else _state_without_record(job, status),
        status=status,
        configuration=_configuration(job.run.folder / "config.yaml", remarks),
        losses=_losses(job.run.losses, remarks),
        remarks=remarks,
    )


def _status(run: Run) -> Mapping[str, Any]:
    try:
        return read_status(run.folder) or {"state": "not begun"}
    except DamagedFile:  # which is then the job's outcome, in words
        return {"state": "unknown"}


def _state_without_record(job: SweepJob, status: Mapping[str, Any]) -> str:
    if job.error is not None:
        return "failed"
    state: str = status["state"]
    # Tasks that only draw end without one.
    return "no record" if state == "done" else state


def _configuration(path: Path, remarks: list[str]) -> dict[str, str]:
    """The configuration by dotted path; what is wrong with the file is added to the remarks."""
    if not path.is_file():
        return {}
    try:
        return flattened(OmegaConf.to_container(OmegaConf.load(path)))
    except (YAMLError, ValueError, OSError) as error:
        remarks.append(f"{path} is damaged ({error})")
        return {}


def _losses(path: Path, remarks: list[str]) -> list[dict[str, Any]]:
    """The logged lines; what is wrong with the file is added to the remarks."""
    try:
        return read_losses(path)
    except ValueError as error:
        remarks.append(f"{path} is damaged ({error})")
        return []


def finite(value: float | None) -> float | None:
    """A number that JSON can hold; None for the others."""
    return value if value is not None and math.isfinite(value) else None
