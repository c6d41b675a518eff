"""Read the rows of a page from their folders: those of a sweep, or the single row of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitlab.runs.records import Record, swept_names
from portraitlab.runs.run import Run
from portraitlab.runs.survey import read_config
from portraitlab.runs.sweep import Sweep, SweepJob
from portraitlab.support.files import damaged
from portraitlab.support.groups import IDLE, NAMING
from portraitlab.tables.report.differences import flattened
from portraitlab.training.logged import read_losses

# Settings that identify a single run, for which no sweep says which settings vary.
_IDENTIFYING = (*NAMING, "refs", "seed")


@dataclass(frozen=True)
class Row:
    """One job: its settings, and what the files of its run contain.

    number: its place, from 1. record: None if there is none; message has the reason. state: the
    run's, as `portraitlab runs` shows it, or no record if the run is done and this scoring is not.
    configuration: values by dotted path. losses: the lines of metrics.jsonl. remarks: errors of
    files that could not be read.
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
        """The record's metrics; empty without a record."""
        return {} if self.record is None else self.record["metrics"]

    @property
    def bounds(self) -> Mapping[str, Mapping[str, Any]]:
        """The record's bounds; empty without a record."""
        return {} if self.record is None else self.record["bounds"]


@dataclass(frozen=True)
class Report:
    """Rows that a page compares.

    kind: sweep or run. name: the folder's name.
    """

    kind: str
    name: str
    rows: Sequence[Row]

    @property
    def swept(self) -> list[str]:
        """Names of the settings that differ between rows; all of them if none differs."""
        return swept_names([row.settings for row in self.rows])

    @property
    def fixed(self) -> dict[str, str]:
        """The settings that the command gave to all rows."""
        swept = self.swept
        return {n: v for n, v in self.rows[0].settings.items() if n not in swept}

    @property
    def metrics(self) -> dict[str, Mapping[str, Any]]:
        """The metrics of all rows by name, in the records' order, from the first row with each."""
        found: dict[str, Mapping[str, Any]] = {}
        for row in self.rows:
            for name, metric in row.metrics.items():
                found.setdefault(name, metric)
        return found

    def label(self, row: Row) -> str:
        """Return a row's number and its swept settings, short enough for a chart."""
        return f"{row.number}: {' · '.join(row.settings.get(name, '–') for name in self.swept)}"


def read_report(path: Path) -> Report:
    """Read the sweep or the run in a folder.

    Raises ValueError if there is neither, or if the file that describes it is damaged. Damaged
    files of single rows become remarks.
    """
    if (path / "sweep.json").is_file():
        jobs = Sweep.read(path).jobs
        if not jobs:
            raise ValueError(f"the sweep in {path} has no jobs; run its command again")
        return Report("sweep", path.resolve().name, [_row(n, j) for n, j in enumerate(jobs, 1)])
    if (path / "config.yaml").is_file():
        return Report("run", path.resolve().name, [_row_of_run(path)])
    raise ValueError(
        f"{path} has no sweep.json, config.yaml or table.yaml; give the folder of a sweep (in "
        "runs/sweeps), a run or a table"
    )


def _row_of_run(folder: Path) -> Row:
    settings = read_config(folder / "config.yaml")
    try:
        run = Run.of(settings, str(folder))
        identifying = {**settings["choices"], "refs": settings["refs"], "seed": settings["seed"]}
    except (KeyError, TypeError) as error:
        raise damaged(folder / "config.yaml", repr(error)) from error
    return _row(1, SweepJob({name: str(identifying[name]) for name in _IDENTIFYING}, run))


def _row(number: int, job: SweepJob) -> Row:
    outcome = job.outcome()
    record = None if isinstance(outcome, str) else outcome
    own = {n: v for n, v in job.overrides.items() if n.split(".")[0] not in IDLE}
    found = job.found()
    remarks: list[str] = []
    configuration = _configuration(job.run.folder / "config.yaml", remarks)
    losses = _losses(job.run.losses, remarks)
    if record is not None and found.state == "damaged" and found.message not in remarks:
        remarks.append(str(found.message))
    return Row(
        number=number,
        settings=own or {"run": job.run.folder.name},
        run=job.run,
        record=record,
        message=outcome.partition(": ")[2] if isinstance(outcome, str) else "",
        state=outcome.partition(":")[0] if isinstance(outcome, str) else found.state,
        status=found.status,
        configuration=configuration,
        losses=losses,
        remarks=remarks,
    )


def _configuration(path: Path, remarks: list[str]) -> dict[str, str]:
    """Read a configuration by dotted path; add a remark if the file is damaged."""
    try:
        return flattened(read_config(path))
    except (ValueError, OSError) as error:
        remarks.append(str(error))
        return {}


def _losses(path: Path, remarks: list[str]) -> list[dict[str, Any]]:
    """Read the logged lines; add a remark if the file is damaged."""
    try:
        return read_losses(path)
    except ValueError as error:
        remarks.append(f"{path} is damaged ({error})")
        return []


def finite(value: float | None) -> float | None:
    """Return the number if JSON can represent it, else None."""
    return value if value is not None and math.isfinite(value) else None
