"""Batches on all cores of a CPU, each batch on one of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from portraitlab.support.precision import computing_in

Part = TypeVar("Part")
Done = TypeVar("Done")

_AHEAD = 2
"""Parts for each thread that are begun before their turn, so that memory does not grow with all."""


def side_by_side(
    work: Callable[[Part], Done],
    parts: Iterable[Part],
    device: torch.device,
    precision: str = "32-true",
    concurrent: bool = True,
) -> Iterator[Done]:
    """Results of `work` on each part, in order, without gradients and in a precision.

    On a CPU as many threads as torch has work on a part each, and torch computes within each of
    them on one core: small layers gain little from a second one (a training step 1.4 times), and
    no sum depends on the number of cores. precision: see frozen_precision. concurrent: False where
    `work` calls what is not made for several threads; then, as on a GPU, parts follow each other.
    """
    inference = torch.is_inference_mode_enabled()

    def done(part: Part) -> Done:
        # All of these belong to a thread, so each enters them by itself.
        with (
            torch.inference_mode(inference),
            torch.no_grad(),
            computing_in(precision, device),
        ):
            return work(part)

    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or not concurrent:
        yield from map(done, parts)
        return
    waiting: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(done, part))
                if len(waiting) > threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(threads)  # for threads to come; this one's never changed
