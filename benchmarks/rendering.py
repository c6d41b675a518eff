"""Seconds to render 600 photos by two processes, with and without a bound on their threads.

python benchmarks/rendering.py      (a quiet machine; writes benchmarks/results/)
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product

from records import write

from portraitlab.world.pool import rendering_pool
from portraitlab.world.render import render_photo

PEOPLE, PHOTOS, WORKERS = 120, 5, 2


def main() -> None:
    """Time both pools, started and warm."""
    identities, numbers = zip(*product(range(PEOPLE), range(PHOTOS)), strict=True)

    def render(pool: ProcessPoolExecutor) -> float:
        with pool:
            # Every process has imported the renderer before the clock starts.
            list(pool.map(render_photo, range(64), range(64), chunksize=16))
            begun = time.perf_counter()
            list(pool.map(render_photo, identities, numbers, chunksize=16))
            return time.perf_counter() - begun

    free = ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"))
    seconds = {
        "as many threads as cores": render(free),
        "one thread a process": render(rendering_pool(WORKERS)),
    }
    write("rendering", seconds, photos=len(identities), processes=WORKERS)


if __name__ == "__main__":
    main()
