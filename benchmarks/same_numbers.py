"""Compare the losses and weights of this tree with another revision's, to the bit.

    python benchmarks/same_numbers.py REVISION

A refactoring must not change trained weights. Both trees run short trainings of smoke and mini on
this machine, and their losses, weights and metrics are compared. Exits with 1 where any differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_FEW = ("scale.world.identities=24", "scale.world.score_identities=4", "budget.steps=12")
TRAININGS: dict[str, tuple[str, ...]] = {
    "smoke": ("scale=smoke",),
    "mini": _FEW,
    "mini, concat, keypoints": (*_FEW, "fusion=concat", "cond=keypoints"),
    "mini, adapter": (*_FEW, "net=adapter", "cond=none"),
    "smoke, InstantID": ("scale=smoke", "system=instantid"),
}


def numbers(tree: Path, overrides: tuple[str, ...], work: Path) -> dict[str, Any]:
    """Train in a tree; return the losses of every step, the weights' hash and the metrics."""
    runs = work / hashlib.sha256(" ".join([str(tree), *overrides]).encode()).hexdigest()[:12]
    places = [f"runs={runs}", f"cache={work / tree.name}-cache"]
    subprocess.run(
        [
            sys.executable,
            "run.py",
            *overrides,
            "logger=none",
            "trainer.log_every_n_steps=1",
            *places,
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (weights,) = runs.glob("*/*/model.safetensors")
    lines = map(json.loads, (weights.parent / "metrics.jsonl").read_text().splitlines())
    record = json.loads((weights.parent / "metrics.json").read_text())
    return {
        "losses": [{k: v for k, v in line.items() if "second" not in k} for line in lines],
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "metrics": {name: metric["value"] for name, metric in record["metrics"].items()},
    }


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="commit or branch to compare with")
    given = parser.parse_args()
    differ = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        other = work / "other"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(other), given.revision], check=True)
        try:
            for name, overrides in TRAININGS.items():
                ours, theirs = (numbers(tree, overrides, work) for tree in (ROOT, other))
                same = {part: ours[part] == theirs[part] for part in ours}
                differ += not all(same.values())
                print(f"{name}: {json.dumps(same)} {ours['losses'][-1]}", flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
