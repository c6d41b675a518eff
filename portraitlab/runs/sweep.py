"""A sweep: the list of its jobs, stored in sweep.json, and their outcomes, read from the runs.

A sweep's folder is named by the settings of its command that change figures. Hence the same sweep
has the same folder on any day, and two sweeps started in the same second have two.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from portraitlab.runs.records import sweep_table, swept_names
from portraitlab.runs.run import Record, Run
from portraitlab.runs.survey import NOT_BEGUN, FoundRun, look
from portraitlab.support.files import DamagedFile, read_json, write_json, write_text
from portraitlab.support.groups import IDLE
from portraitlab.support.table import Table


class _JobEntry(TypedDict):
    overrides: dict[str, str]
    run: str
    key: str
    scoring: str
    error: str | None
    published: str | None


class _SweepFile(TypedDict):
    jobs: list[_JobEntry]


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: its own overrides by name, its run and its scoring.

    error: message of its last failure. published: a record of the same run and scoring in another
    folder, used where the run has no record of its own.
    """

    overrides: Mapping[str, str]
    run: Run
    error: str | None = None
    published: Path | None = None

    def found(self) -> FoundRun:
        """Read the job's run; one that its job failed to begin is failed, with the job's error."""
        found = look(self.run.folder)
        if found.state == NOT_BEGUN and self.error is not None:
            return replace(found, state="failed", message=self.error)
        return found

    def outcome(self) -> Mapping[str, Any] | str:
        """Return the job's record, or the state of its run with the reason, as in `failed: why`.

        A run that is done, but not with this job's scoring, has `no record`.
        """
        try:
            record = self.run.record()
            if record is None and self.published is not None:
                record = read_json(self.published, Record)
        except DamagedFile as error:
            return f"damaged: {error}"
        if record is not None:
            return record
        found = self.found()
        state = found.state
        if state == "done":  # by another job of the run
            state = "no record" if self.error is None else "failed"
        reasons = dict.fromkeys(each for each in (found.message, self.error) if each)
        return ": ".join([state, *(["; ".join(reasons)] if reasons else [])])


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep in their order, and the sweep's folder."""

    folder: Path
    jobs: Sequence[SweepJob]

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """Read the files of `write`. Raises ValueError for no sweep, or a damaged one."""
        content = read_json(folder / "sweep.json", _SweepFile)
        if content is None:
            raise ValueError(f"{folder} has no sweep.json; give a folder of runs/sweeps")
        jobs = [
            SweepJob(
                job["overrides"],
                Run((folder / job["run"]).resolve(), job["key"], job["scoring"]),
                job["error"],
                None if job["published"] is None else (folder / job["published"]).resolve(),
            )
            for job in content["jobs"]
        ]
        return cls(folder, jobs)

    def write(self) -> None:
        """Write sweep.json, with the runs' folders relative to the sweep's."""
        jobs = [
            {
                "overrides": dict(job.overrides),
                "run": self._relative(job.run.folder),
                "key": job.run.key,
                "scoring": job.run.scoring,
                "error": job.error,
                "published": None if job.published is None else self._relative(job.published),
            }
            for job in self.jobs
        ]
        write_json(self.folder / "sweep.json", {"jobs": jobs})

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self.folder.resolve())

    def swept(self) -> list[str]:
        """Name the settings that vary between the jobs, or all where none does."""
        return swept_names([job.overrides for job in self.jobs])

    def table(self) -> Table:
        """Tabulate the swept settings and the figures, or the error, of each job."""
        return sweep_table([(job.overrides, job.outcome()) for job in self.jobs])

    def write_table(self) -> None:
        """Write sweep.md and sweep.csv with the jobs' current outcomes."""
        table = self.table()
        write_text(self.folder / "sweep.md", table.markdown())
        write_text(self.folder / "sweep.csv", table.csv())


def sweep_name(overrides: Sequence[str]) -> str:
    """Name a sweep by its command line: its table, the swept settings, a hash of all settings."""
    kept = sorted(text for text in overrides if re.split(r"[./@]", _setting(text))[0] not in IDLE)
    swept = [_setting(text).split(".")[-1] for text in kept if "," in text or "(" in text]
    tables = [text.split("=", 1)[1].replace("/", "-") for text in kept if text.startswith("table=")]
    digest = hashlib.sha256("\n".join(kept).encode()).hexdigest()[:8]
    return "-".join([*tables, *swept, digest])


def sweep_group(overrides: Sequence[str], folder: Path) -> str | None:
    """Return W&B's group of a sweep's runs: the sweep's name; None where the command sets one."""
    return None if any(_setting(text) == "group" for text in overrides) else folder.name


def _setting(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")
