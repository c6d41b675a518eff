"""A sweep: the list of its jobs, kept in sweep.json, and what became of each, read from the runs.

A sweep's folder is named by its command without what changes no figure, so the same sweep lies in
the same place on any day, and two sweeps started in the same second in two.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitlab.runs.records import sweep_table, swept_names
from portraitlab.runs.run import RECORD, Run
from portraitlab.runs.status import read_status
from portraitlab.support.files import DamagedFile, read_json, write_json, write_text
from portraitlab.support.table import Table

# Settings of a command that change how its jobs are run and kept, and not what they are.
_HOW = ("launcher", "jobs", "fresh", "runs", "cache", "logger", "group", "hydra", "debug")


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: its own overrides by name, the run that it is, and of which scoring.

    error: what it ended with when it was last run, where it failed. published: a record of the
    same run and scoring that lies elsewhere, and stands where the run has none of its own.
    """

    overrides: Mapping[str, str]
    run: Run
    error: str | None = None
    published: Path | None = None

    def outcome(self) -> Mapping[str, Any] | str:
        """The job's record, or in words why there is none."""
        try:
            record = self.run.record()
            if record is None and self.published is not None:
                record = read_json(self.published, RECORD)
            status = read_status(self.run.folder) or {"state": "not begun"}
        except DamagedFile as error:
            return str(error)
        if record is not None:
            return record
        if self.error is not None:
            return self.error
        reason = status.get("error")
        return status["state"] if reason is None else f"{status['state']}: {reason}"


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep in their order, and the folder that tells of them."""

    folder: Path
    jobs: Sequence[SweepJob]

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """What `write` wrote. Raises ValueError where the folder holds no sweep, or half of one."""
        content = read_json(folder / "sweep.json", needs=["jobs"])
        if content is None:
            raise ValueError(
                f"{folder} holds no sweep: sweep.json is not there; give a folder of runs/sweeps"
            )
        try:
            jobs = [
                SweepJob(
                    job["overrides"],
                    Run((folder / job["run"]).resolve(), job["key"], job["scoring"]),
                    job["error"],
                    None if job["published"] is None else (folder / job["published"]).resolve(),
                )
                for job in content["jobs"]
            ]
        except KeyError as error:
            raise DamagedFile(
                f"{folder / 'sweep.json'} is damaged (a job lacks {error.args[0]}); run the same "
                "command again"
            ) from error
        return cls(folder, jobs)

    def write(self) -> None:
        """Write sweep.json, with the runs' folders as seen from the sweep's."""
        jobs = [
            {
                "overrides": dict(job.overrides),
                "run": self._seen(job.run.folder),
                "key": job.run.key,
                "scoring": job.run.scoring,
                "error": job.error,
                "published": None if job.published is None else self._seen(job.published),
            }
            for job in self.jobs
        ]
        write_json(self.folder / "sweep.json", {"jobs": jobs})

    def _seen(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self.folder.resolve())

    def swept(self) -> list[str]:
        """Names of the settings that vary between the jobs, all where none does."""
        return swept_names([job.overrides for job in self.jobs])

    def table(self) -> Table:
        """What was swept, then the figures of each job, or why there are none."""
        return sweep_table([(job.overrides, job.outcome()) for job in self.jobs])

    def write_table(self) -> None:
        """Write sweep.md and sweep.csv, as far as the jobs are."""
        table = self.table()
        write_text(self.folder / "sweep.md", table.markdown())
        write_text(self.folder / "sweep.csv", table.csv())


def sweep_name(overrides: Sequence[str]) -> str:
    """A sweep's name from its command line: its table, what it sweeps, a hash of all it sets."""
    kept = sorted(text for text in overrides if re.split(r"[./@]", _setting(text))[0] not in _HOW)
    swept = [_setting(text).split(".")[-1] for text in kept if "," in text or "(" in text]
    tables = [text.split("=", 1)[1].replace("/", "-") for text in kept if text.startswith("table=")]
    digest = hashlib.sha256("\n".join(kept).encode()).hexdigest()[:8]
    return "-".join([*tables, *swept, digest])


def sweep_group(overrides: Sequence[str], folder: Path) -> str | None:
    """What groups a sweep's runs in W&B: the sweep, or None where the command says it itself."""
    return None if any(_setting(text) == "group" for text in overrides) else folder.name


def _setting(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")
