"""Processes that read photos, each on one core, a bounded number of photos ahead."""

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
    """What `map` does, by however many processes."""

    def __call__(
        self, function: Callable[[_Job], _Done], jobs: Iterable[_Job], /
    ) -> Iterator[_Done]:
        """Results in the order of the jobs."""
        ...


@contextmanager
def reading(workers: int, ahead: int = 2) -> Iterator[Apply]:
    """A `map` over this many processes; 0 does the jobs in this one.

    ahead: jobs for each process that are begun before their turn. No more than those are held, so
    that memory does not grow with the number of photos. Raises ValueError, while results are
    taken, where a process was killed.
    """
    if not workers:
        yield map
        return
    # Fresh processes: a forked one would inherit torch's threads in whatever state they are.
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
                    "huge photo takes. Go on with fewer --workers; 0 shows which photo it is."
                ) from error
            finally:
                for future in waiting:
                    future.cancel()

        yield apply


def follow_the_parent() -> None:
    """Leave Ctrl-C to the process that started this one, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A parent that was killed cannot tell, and its processes would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
