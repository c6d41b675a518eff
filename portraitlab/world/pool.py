"""A pool of processes that render photos, each on one core."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor

import numpy as np  # noqa: F401  (its BLAS must be loaded before it can be limited)
from threadpoolctl import threadpool_limits


def rendering_pool(workers: int) -> ProcessPoolExecutor:
    """Start spawned processes that import the renderer and nothing heavy.

    They are spawned because a forked process would inherit torch's threads in an undefined state.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare)


def _prepare() -> None:
    # Leave Ctrl-C to the parent, which shuts down its pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The renderer's matrix products are too small for several threads, and idle threads would spin
    # on the cores of the other processes.
    threadpool_limits(1, user_api="blas")
