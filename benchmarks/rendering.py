"""Time rendering 600 photos by two processes, with and without a limit on their threads.

python benchmarks/rendering.py      (a quiet machine; writes benchmarks/results/)
python benchmarks/rendering.py --against FOLDER
    CPU time of a portrait in one process, at 64 and 128 pixels, beside an older checkout's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from records import write

from portraitlab.world.pool import rendering_pool
from portraitlab.world.render import render_photo

PEOPLE, PHOTOS, WORKERS = 120, 5, 2
ROUNDS, PEOPLE_A_ROUND = 5, 30
ROUND = f"""
import time
from portraitlab.world.render import render_photo
for seed in range(16):
    render_photo(200_000 + seed, 0, {{size}})
begun = time.process_time()
for seed in range({PEOPLE_A_ROUND}):
    for photo in range({PHOTOS}):
        render_photo(seed, photo, {{size}})
print(time.process_time() - begun)
"""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="an older checkout of the project")
    arguments = parser.parse_args()
    if arguments.against:
        compare(arguments.against)
    else:
        time_pools()


def compare(older: Path) -> None:
    """Time rounds of both renderers in turn, in CPU time, which other work hardly affects."""
    folders = {"older": older.resolve(), "this": Path(__file__).resolve().parents[1]}
    for size in (64, 128):
        rounds: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(ROUNDS):
            for name, folder in folders.items():
                rounds[name].append(_round(folder, size))
        photos = PEOPLE_A_ROUND * PHOTOS
        seconds = {name: statistics.median(taken) / photos for name, taken in rounds.items()}
        write(f"rendering_{size}", seconds, rounds=ROUNDS, photos=photos, time="CPU, of one photo")


def _round(folder: Path, size: int) -> float:
    """Time a round, in CPU seconds, in a new process that imports the project from a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ROUND.format(size=size)]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def time_pools() -> None:
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
