"""Processes that render photos, each on one core."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor

import numpy as np  # noqa: F401  (its BLAS must be loaded before it can be limited)
from threadpoolctl import threadpool_limits


def rendering_pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes, which know the renderer and nothing heavy.

    Fresh, as a forked one would inherit torch's threads in whatever state they are.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare)


def _prepare() -> None:
    # A terminal's Ctrl-C is the parent's, which ends its pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The renderer's many small products are no work for several threads, and the idle ones would
    # spin on the cores that the other processes render on.
    threadpool_limits(1, user_api="blas")
