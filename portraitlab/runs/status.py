"""Write and read status.json: the state of a run while it runs and after it ended."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Required, Self

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from portraitlab.support.files import DamagedFile, read_json, write_json

_log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "preempted"]

# Files of a run that are worth keeping, also without a status.
_RESULTS = ("model.safetensors", "metrics.json", "checkpoints/*.ckpt", "scores/*/metrics.json")


def _aware(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return text


class _StatusFile(TypedDict, total=False):
    state: Required[State]
    written: Annotated[str, AfterValidator(_aware)]
    doing: str
    step: int
    steps: int
    host: str
    process: Annotated[int, Field(gt=0, lt=2**31)]
    error: str | None
    traceback: str
    earlier: dict[str, Any] | None


class Preempted(SystemExit):
    """A process was stopped by Ctrl-C, SIGTERM, a scheduler's signal, or its time limit.

    The process's exit code is 128 + signum, as in a shell. signum: the signal, SIGALRM for a time
    limit.
    """

    def __init__(self, signum: int, name: str) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.name = name

    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        return type(self), (self.signum, self.name)


class Status:
    """A context manager that keeps a run's status.json: running with a heartbeat, then the end.

    Exceptions are recorded (Preempted as preempted, all others as failed with their traceback) and
    re-raised. A killed process leaves `running` and a heartbeat that is no longer updated. Until
    the first step or scoring begins, the file also has the earlier state, for `withdraw`.

    every: seconds between heartbeats.
    """

    def __init__(self, folder: Path, every: float = 5.0) -> None:
        self.path = folder / "status.json"
        self.every = every
        self.step: int | None = None
        self._doing: dict[str, Any] = {}
        self._earlier = _earlier(folder)
        self._ended = threading.Event()
        # The heartbeat's thread and the run write the same file. The lock keeps either from writing
        # state that it read before the other wrote.
        self._writing = threading.Lock()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def doing(self, what: str, steps: int | None = None) -> None:
        """Record the activity that begins: training, with its number of steps, or scoring."""
        with self._writing:
            self.step = None
            self._doing = {"doing": what} if steps is None else {"doing": what, "steps": steps}
            self._running()
        if what == "scoring":
            self._drop_aside()

    def begin(self, step: int) -> None:
        """Record the first step of this command, with which the earlier state is past."""
        with self._writing:
            self.step = step
            self._running()
        self._drop_aside()

    def _drop_aside(self) -> None:
        shutil.rmtree(_aside(self.path.parent), ignore_errors=True)

    def __enter__(self) -> Self:
        self._running()
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._heart.join()
        if error is None:
            self._write("done")
            return
        try:
            if isinstance(error, Preempted):
                self._write("preempted", error=f"stopped by {error.name}", **self._place())
            else:
                # Imported late, since it imports Hydra, which listing runs does not need.
                from portraitlab.support.errors import message

                reason = message(error) or str(error) or type(error).__name__
                lines = "".join(traceback.format_exception(error))
                self._write("failed", error=reason, traceback=lines, **self._place())
        except OSError as unwritten:
            # Raise the run's own error and only log this one.
            _log.warning("%s could not be written: %s", self.path, unwritten)

    def _place(self) -> dict[str, Any]:
        if self.step is not None:
            return {**self._doing, "step": self.step}
        begun = self._doing.get("doing") == "scoring"
        return self._doing if begun else {**self._doing, "earlier": self._earlier}

    def _running(self) -> None:
        process = {"host": socket.gethostname(), "process": os.getpid()}
        self._write("running", **self._place(), **process)

    def _write(self, state: State, **details: Any) -> None:
        write_status(self.path.parent, state, **details)

    def _beat(self) -> None:
        while not self._ended.wait(self.every):
            try:
                with self._writing:
                    self._running()
            except OSError as error:  # the run may still succeed; otherwise it fails by itself
                _log.warning("%s could not be written: %s", self.path, error)


def write_status(folder: Path, state: State, **details: Any) -> None:
    """Write a run's status.json with the current time, the heartbeat of a running run."""
    written = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "status.json", {"state": state, **details, "written": written})


def queue(folder: Path) -> None:
    """Mark a run as planned by this process; the earlier state is kept for `withdraw`."""
    process = {"host": socket.gethostname(), "process": os.getpid()}
    write_status(folder, "queued", **process, earlier=_earlier(folder))


def write_failure(folder: Path, error: str, **details: Any) -> None:
    """Record the failure of a run whose own process died, where it had a status."""
    status = read_status(folder)
    if status is not None:
        kept = ("doing", "step", "steps", "earlier")
        place = {name: status[name] for name in kept if name in status}
        write_status(folder, "failed", error=error, **place, **details)


def set_aside(folder: Path) -> None:
    """Move a run away until its successor begins a step or a scoring, which deletes it.

    A successor that began neither is deleted in its place; see `withdraw`.
    """
    if _aside(folder).exists():
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.rename(_aside(folder))


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.earlier")


def withdraw(folder: Path) -> None:
    """Put back the state from before a command that began no step; delete a run that had none.

    A run that was set aside is put back whole. Does nothing where a step or a scoring was begun.
    The caller has locked the run.
    """
    with suppress(DamagedFile, OSError):  # such as a full disk, whose error is being raised
        status = read_status(folder)
        if status is None or "earlier" not in status:
            return
        if status["earlier"] is not None:
            write_json(folder / "status.json", status["earlier"])
        elif any(path for pattern in _RESULTS for path in folder.glob(pattern)):
            (folder / "status.json").unlink()
        else:
            shutil.rmtree(folder)
            if _aside(folder).exists():
                _aside(folder).rename(folder)


def _earlier(folder: Path) -> dict[str, Any] | None:
    """Return the state of the last command that began a step; None without one."""
    try:
        status = read_status(folder) or {"earlier": None}
    except DamagedFile:
        return None
    earlier: dict[str, Any] | None = status.get("earlier", status)
    return earlier


def read_status(folder: Path) -> dict[str, Any] | None:
    """Read a run's status.json; None without it. Raises DamagedFile for other content."""
    return read_json(folder / "status.json", _StatusFile)
