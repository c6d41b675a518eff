"""Time `python run.py` from an empty cache at two commits, in turn.

python benchmarks/first_run.py 49cbd92 HEAD [--threads 1] [--rounds 1] [overrides ...]

Each commit is cloned to a folder of its own, and run with runs and cache of its own, which are
deleted. Measured are the wall clock and the user CPU seconds of the run and of all its processes:
other work on the machine affects the first far more than the second. With several threads on a busy
machine, waiting for each other counts as user time too; --threads 1 avoids that. Writes
benchmarks/results/first_run.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from records import RESULTS, machine, save

ROOT = Path(__file__).parents[1]


def timed_run(
    clone: Path, place: Path, threads: int | None, overrides: list[str]
) -> dict[str, Any]:
    """Time one run in wall and user CPU seconds; add Sim_f and its bound from the record."""
    command = [sys.executable, "run.py", "logger=none", f"runs={place / 'runs'}"]
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [*command, f"cache={place / 'cache'}", *overrides],
        cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    (path,) = place.glob("runs/*/*/metrics.json")
    record = json.loads(path.read_text())
    return {
        "wall_seconds": round(wall, 1),
        "user_seconds": round(after.ru_utime - before.ru_utime, 1),
        "sim_f": record["metrics"]["sim_f"]["value"],
        "real_other_photo": record["bounds"]["real other photo"]["sim_f"]["value"],
    }


def main() -> None:
    """Run both commits in turn; write their times and the ratio of their shortest times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commits", nargs=2, help="reference commit, then the commit to compare")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of the runs (default: all)")
    parser.add_argument("--rounds", type=int, default=1)
    given, overrides = parser.parse_known_args()

    # Clone and run both commits.
    runs: dict[str, list[dict[str, Any]]] = {commit: [] for commit in given.commits}
    with tempfile.TemporaryDirectory() as folder:
        clones = {}
        for number, commit in enumerate(given.commits):
            name = subprocess.check_output(
                ["git", "rev-parse", commit], cwd=ROOT, text=True
            ).strip()
            clones[commit] = Path(folder) / f"clone-{number}"
            subprocess.run(["git", "clone", "-q", ROOT, clones[commit]], check=True)
            subprocess.run(["git", "checkout", "-q", name], cwd=clones[commit], check=True)
        for turn in range(given.rounds):
            for commit, clone in clones.items():
                place = Path(folder) / f"{clone.name}-{turn}"
                runs[commit].append(timed_run(clone, place, given.threads, overrides))
                print(commit, runs[commit][-1], flush=True)

    # Compare the shortest times.
    earlier, later = (runs[commit] for commit in given.commits)
    ratios = {
        name: round(min(run[name] for run in later) / min(run[name] for run in earlier), 3)
        for name in ("wall_seconds", "user_seconds")
    }
    about = {"machine": machine(torch.device("cpu")), "torch": torch.__version__}
    settings = {"threads": given.threads, "overrides": overrides}
    save({**about, **settings, "runs": runs, "ratios": ratios}, RESULTS / "first_run.json")
    print(ratios)


if __name__ == "__main__":
    main()
