"""Lock files against other processes; the system releases the lock of a process that dies."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock of a file or folder, which need not exist; wait while another process has it.

    busy: message of a ValueError to raise instead of waiting. The hidden lock file stays beside
    `path`, and is removed with it. A process that waits for the removed file makes a new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        if busy is not None:
            raise ValueError(busy) from error
        _log.info("waiting for another process that has locked %s", path)
        lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        if not path.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def is_locked(path: Path) -> bool:
    """Check whether a running process holds the lock of `path`."""
    lock = _lock(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"), preserve_lock_file=True)
