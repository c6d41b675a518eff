"""Processes that read photos, each a bounded number ahead; this module imports nothing heavy."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from portraitlab.data.photo import (
    DecodedPhoto,
    UnusablePhoto,
    read_photo,
    require_verdict,
    unreadable,
)
from portraitlab.data.prepare.listing import BadCaption, caption_of, not_text
from portraitlab.support.hashes import file_digest

_Job = TypeVar("_Job")
_Done = TypeVar("_Done")


class Apply(Protocol):
    """The interface of `map`, for any number of processes."""

    def __call__(
        self, function: Callable[[_Job], _Done], jobs: Iterable[_Job], /
    ) -> Iterator[_Done]:
        """Yield results in the order of the jobs."""
        ...


@contextmanager
def reading(workers: int, ahead: int = 2) -> Iterator[Apply]:
    """Open a `map` over this many processes; 0 runs the jobs in this one.

    ahead: jobs started early, for each process. The bound keeps memory from growing with the number
    of photos. Raises ValueError, while results are read, if a process was killed.
    """
    if not workers:
        yield map
        return
    # Spawn, since a forked process would inherit torch's threads in an unknown state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=follow_the_parent) as pool:

        def apply(function: Callable[[_Job], _Done], jobs: Iterable[_Job]) -> Iterator[_Done]:
            waiting: deque[Future[_Done]] = deque()
            try:
                for job in jobs:
                    waiting.append(pool.submit(function, job))
                    if len(waiting) > workers * ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BrokenProcessPool as error:
                raise ValueError(
                    "A process that reads photos was killed, most likely for the memory that a "
                    "huge photo takes. Resume with fewer --workers; 0 shows which photo it is."
                ) from error
            finally:
                for future in waiting:
                    future.cancel()

        yield apply


def follow_the_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """End this process with its parent; if that is killed, this would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclass(frozen=True)
class FileInfo:
    """Size of a file in bytes, sha256 of its content, and its caption or None."""

    size: int
    digest: bytes
    caption: str | None


def inspect_file(path: Path) -> FileInfo | str:
    """Return what a plan records of a file, or the reason why it cannot be used."""
    if (text := not_text(path.name)) is not None:
        return text
    try:
        digest = bytes.fromhex(file_digest(path))
        return FileInfo(path.stat().st_size, digest, caption_of(path))
    except BadCaption as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


@dataclass(frozen=True)
class PlannedFile:
    """A file to read, with the sha256 that it had when it was listed."""

    path: Path
    digest: bytes


def read_planned(job: PlannedFile) -> DecodedPhoto | str:
    """Read a photo, or return the reason why it cannot be used.

    Raises ValueError if the file changed since it was listed, and if the system cannot read it: a
    shard stores the reasons, so a passing failure must not become one.
    """
    try:
        if not job.path.is_file() or bytes.fromhex(file_digest(job.path)) != job.digest:
            raise changed(job.path)
        return read_photo(job.path)
    except FileNotFoundError as error:
        raise changed(job.path) from error
    except OSError as error:
        raise unreadable(job.path, error) from error
    except UnusablePhoto as error:
        require_verdict(job.path, error)
        return str(error)


def changed(path: Path) -> ValueError:
    """Make the error for a listed file or folder that has changed since."""
    return ValueError(
        f"{path} was changed or removed since it was listed. Restore it and run the same command "
        "again, or prepare into another folder."
    )
