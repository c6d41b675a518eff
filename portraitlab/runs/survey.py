"""Find runs and read their states from their small files, without heavy imports."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from typing_extensions import TypedDict

from portraitlab.runs.status import State, read_status
from portraitlab.support.files import below, read_json
from portraitlab.support.groups import LISTED, NAMING
from portraitlab.support.lock import is_locked
from portraitlab.support.yaml_files import read_yaml

# Settings that distinguish runs, with their dotted paths in a configuration.
KEY_SETTINGS = {
    **{name: f"choices.{name}" for name in ("system", *NAMING)},
    **{"refs": "refs", "seed": "seed", "steps": "budget.steps"},
    **{name: f"choices.{name}" for name in LISTED},
}
STATES = (*get_args(State), "lost", "damaged")
"""A lost run was killed: its status is running, and no process has its lock."""
NOT_BEGUN = "not begun"
"""State of a run without a folder."""

_NAME = re.compile(
    "-".join(rf"(?P<{name}>\w+)" for name in NAMING)
    + r"-r(?P<refs>\d+)-s(?P<seed>\d+)-(?P<key>[0-9a-f]{8})"
)


class _Measured(TypedDict):
    metrics: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class FoundRun:
    """A run as read from its files.

    state: one of STATES, or NOT_BEGUN. written: time of its status. status, config and record:
    contents of status.json, config.yaml and metrics.json, empty without the file. scorings: names
    of its further records. message: the error that it failed with, or another remark.
    """

    folder: Path
    state: str
    written: datetime | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    scorings: tuple[str, ...] = ()
    message: str | None = None

    @property
    def key(self) -> str:
        """The hash at the end of the folder's name; the whole name where there is none."""
        named = _NAME.fullmatch(self.folder.name)
        return self.folder.name if named is None else named["key"]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The figures of its record, by name."""
        figures: Mapping[str, Any] = self.record.get("metrics", {})
        return figures

    def setting(self, name: str) -> Any:
        """Return a key setting, or the value at a dotted path of the configuration.

        A run that is only queued has the settings in its name. Raises KeyError where the run has
        no such setting.
        """
        if name in KEY_SETTINGS and not self.config:
            return self._named()[name]
        value: Any = self.config
        for part in KEY_SETTINGS.get(name, name).split("."):
            if not isinstance(value, Mapping):
                raise KeyError(name)
            value = value[part]
        return value

    def _named(self) -> dict[str, Any]:
        named = _NAME.fullmatch(self.folder.name)
        if named is None:
            return {}
        names = {name: named[name] for name in NAMING}
        numbers = {name: int(named[name]) for name in ("refs", "seed")}
        return {"system": self.folder.parent.name, **names, **numbers}


def run_folders(folder: Path) -> list[Path]:
    """List the folders of runs: `folder` itself, or those one or two levels below it, by name.

    Runs are in SYSTEM/NAME below the folder of all runs; deeper ones, as in runs/debug, are left
    out. Raises ValueError where there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}; give the one that run.py was given as runs=FOLDER"
        )
    return [
        path
        for pattern in (".", "[!.]*", "[!.]*/[!.]*")
        for path in sorted(folder.glob(pattern) if pattern != "." else [folder])
        if (path / "status.json").is_file()
        or ((path / "config.yaml").is_file() and (path / "origin.json").is_file())
    ]


def look(folder: Path) -> FoundRun:
    """Read the run in a folder; the state that all commands, tables and pages show is from here.

    With a damaged or unreadable file it is `damaged`.
    """
    try:
        return _read(folder)
    except (ValueError, OSError) as error:
        return FoundRun(folder, "damaged", message=str(error))


def find_run(name: str, runs: Path) -> Path:
    """Find the folder of the one run below `runs` whose name ends with `name`, e.g. its key.

    Raises ValueError, with candidates, where there is none or more than one.
    """
    known = run_folders(runs)
    found = [folder for folder in known if name and folder.name.endswith(name)]
    if len(found) == 1:
        return found[0]
    shown = found or known
    listed = "".join(f"\n  {folder}" for folder in shown[:20])
    more = f"\n  and {len(shown) - 20} more" if len(shown) > 20 else ""
    if found:
        raise ValueError(
            f"the names of {len(found)} runs end in {name!r}; give more of the name:{listed}{more}"
        )
    raise ValueError(
        f"no run {name!r}: it is neither a folder nor the end of a run's name in {runs}"
        + (f"; runs:{listed}{more}" if known else ", which has no runs; give another --runs")
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a run's config.yaml; {} without it. Raises DamagedFile for other content."""
    try:
        return read_yaml(path)
    except FileNotFoundError:
        return {}


def read_record(path: Path) -> dict[str, Any]:
    """Read a record's metrics.json; {} without it. Raises DamagedFile for other content."""
    return read_json(path, _Measured) or {}


def _read(folder: Path) -> FoundRun:
    status = read_status(folder) or {}
    config = read_config(folder / "config.yaml")
    record = read_record(folder / "metrics.json")

    # Correct the state where the process that wrote it is gone.
    state, message = status.get("state"), status.get("error")
    if state is None:
        begun = "lost" if config else NOT_BEGUN
        state = "done" if record else "running" if is_locked(folder) else begun
    elif (
        state == "running" and status.get("host") == socket.gethostname() and not is_locked(folder)
    ):
        # It may have just ended: the status precedes the lock's release.
        status = read_status(folder) or {}
        state, message = status["state"], status.get("error")
        state = "lost" if state == "running" else state

    # Explain states that the same command resolves.
    if state == "queued" and _writer_ended(status):
        message = (
            "the command that queued it has ended; the same command starts it, unless a "
            "scheduler still has it queued"
        )
    if state == "lost":
        message = "was killed; the same command resumes it"
    elif state == "preempted":
        message = f"{message}; the same command resumes it"
    written = datetime.fromisoformat(status["written"]) if "written" in status else None
    scorings = tuple(sorted(path.parent.name for path in below(folder, "scores/*/metrics.json")))
    return FoundRun(folder, state, written, status, config, record, scorings, message)


def _writer_ended(status: Mapping[str, Any]) -> bool:
    """Return True if the process that wrote a status ran on this machine and has ended."""
    if status.get("host") != socket.gethostname() or "process" not in status:
        return False
    try:
        os.kill(status["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's, and runs
        return False
    return False
