"""status.json: what a run is doing, kept true while it runs and after it ended."""

from __future__ import annotations

import logging
import os
import socket
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from portraitlab.support.files import DamagedFile, read_json, write_json

_log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "preempted"]


class Preempted(SystemExit):
    """A process that was told to stop: by Ctrl-C, SIGTERM, a scheduler's signal, or its time limit.

    signum: the signal, SIGALRM for a time limit. The process's exit code is 128 and the signal's
    number, as in a shell.
    """

    def __init__(self, signum: int, name: str) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.name = name

    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        return type(self), (self.signum, self.name)


class Status:
    """Writes a run's status.json: running with a heartbeat inside `with`, then how it ended.

    What is raised inside is written down (Preempted as preempted, all else as failed with its
    traceback) and raised on. A process that is killed leaves `running` and a heartbeat that stands
    still. every: seconds between heartbeats.
    """

    def __init__(self, folder: Path, every: float = 5.0) -> None:
        self.path = folder / "status.json"
        self.every = every
        self.step: int | None = None
        self._doing: dict[str, Any] = {}
        self._ended = threading.Event()
        # The heart and the run itself write one file, through one neighbour, and neither may
        # write what it read before the other wrote.
        self._writing = threading.Lock()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def doing(self, what: str, steps: int | None = None) -> None:
        """Say what begins: training, with its number of steps, or scoring."""
        with self._writing:
            self.step = None
            self._doing = {"doing": what} if steps is None else {"doing": what, "steps": steps}
            self._running()

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
                # Here, since it imports Hydra, which whoever only lists runs does without.
                from portraitlab.support.errors import message

                reason = message(error) or str(error) or type(error).__name__
                lines = "".join(traceback.format_exception(error))
                self._write("failed", error=reason, traceback=lines, **self._place())
        except OSError as unwritten:
            # What was raised inside matters more than that it could not be written down.
            _log.warning("%s could not be written: %s", self.path, unwritten)

    def _place(self) -> dict[str, Any]:
        return self._doing if self.step is None else {**self._doing, "step": self.step}

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
            except OSError as error:  # the run may still get by, and says so itself if not
                _log.warning("%s could not be written: %s", self.path, error)


def write_status(folder: Path, state: State, **details: Any) -> None:
    """Write a run's status.json with the time of writing, the heartbeat of a run that runs."""
    written = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "status.json", {"state": state, **details, "written": written})


def read_status(folder: Path) -> dict[str, Any] | None:
    """A run's status.json; None where there is none. Raises DamagedFile for another content."""
    status = read_json(folder / "status.json")
    if status is not None and status.get("state") not in get_args(State):
        raise DamagedFile(
            f"{folder / 'status.json'} has the state {status.get('state')!r}, which none of "
            f"{', '.join(get_args(State))} is; delete the file and run the same command again"
        )
    return status
