"""Time a job of a sweep against the same training in a bare loop.

python benchmarks/sweep.py           (a quiet machine; writes benchmarks/results/)

The bare loop trains and scores one seed after another in one process. A sweep gives each job a
process of its own; a job's additional time is the cost of that isolation. Both use scale=smoke,
whose jobs are short, and read photos from a cache. Work that is done once, such as importing the
libraries, is excluded on both sides: a time is that of JOBS more seeds, divided by JOBS.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from records import write

ROOT = Path(__file__).parents[1]
JOBS, ROUNDS = 5, 3
SETTINGS = ("scale=smoke", "logger=none")

LOOP = """
import sys
sys.path.insert(0, "tests")
from composing import compose_config
from portraitlab.app.task.train import Train
first, last, *places = sys.argv[1:]
for seed in range(int(first), int(last)):
    Train()(compose_config(f"seed={seed}", *places))
"""


def taken(command: Sequence[str]) -> float:
    """Time a command."""
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def loop(seeds: range, *places: str) -> float:
    """Time a bare loop over seeds."""
    settings = (str(seeds.start), str(seeds.stop), *SETTINGS, *places)
    return taken([sys.executable, "-c", LOOP, *settings])


def sweep(seeds: range, *places: str) -> float:
    """Time a sweep over seeds."""
    swept = "seed=" + ",".join(map(str, seeds))
    return taken([sys.executable, "run.py", "-m", swept, *SETTINGS, *places])


def main() -> None:
    """Measure both in turn and write the record."""
    each: dict[str, list[float]] = {"a bare loop": [], "a sweep": []}
    with tempfile.TemporaryDirectory() as folder:
        cache = f"cache={folder}/cache"
        loop(range(1), f"runs={folder}/warm", cache)
        for number in range(ROUNDS):
            for name, way in (("a bare loop", loop), ("a sweep", sweep)):
                places = (f"runs={folder}/{way.__name__}-{number}", cache)
                one = way(range(1), *places)
                more = way(range(1, JOBS + 2), *places)
                each[name].append((more - one) / JOBS)
    seconds = {name: sorted(times)[len(times) // 2] for name, times in each.items()}
    overhead = seconds["a sweep"] - seconds["a bare loop"]
    print(f"a job's process costs {overhead:.2f} s")
    write("sweep", seconds, jobs=JOBS, overhead_seconds=round(overhead, 2))


if __name__ == "__main__":
    main()
