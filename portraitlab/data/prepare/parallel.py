"""Processes that read photos, each a bounded number of photos ahead."""

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
from typing import Protocol, TypeVar

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
