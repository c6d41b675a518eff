"""Run folders written by the store's own functions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composing import settings_of

from portraitlab.runs.run import Run
from portraitlab.runs.status import Status
from portraitlab.support.files import write_json

PEOPLE = {"anna": 0.4, "bruno": 0.5, "carla": 0.6}


def metric(by_identity: Mapping[str, float], higher_is_better: bool = True) -> dict[str, Any]:
    value = sum(by_identity.values()) / len(by_identity)
    return {
        "value": value,
        "error": 0.05,
        "higher_is_better": higher_is_better,
        "method": "cosine",
        "by_identity": dict(by_identity),
    }


@dataclass
class Store:
    """Writes runs as run.py does, without training."""

    folder: Path

    def settings(self, *overrides: str) -> dict[str, Any]:
        return {**settings_of(*overrides), "runs": str(self.folder)}

    def begun(self, *overrides: str) -> Run:
        """A run that has its configuration and checkpoints, and no status yet."""
        settings = self.settings(*overrides)
        run = Run.of(settings)
        run.describe(settings)
        run.checkpoints.mkdir()
        for step in (200, 400):
            (run.checkpoints / f"step-{step:06d}-0123456789abcdef.ckpt").write_bytes(bytes(1000))
        return run

    def done(self, *overrides: str, sim_f: Mapping[str, float] = PEOPLE) -> Run:
        """A run that is trained and scored."""
        run = self.begun(*overrides)
        with Status(run.folder) as status:
            status.doing("training", 1000)
            run.weights.write_bytes(bytes(10))
            self.record(run, run.scoring, run.folder, sim_f)
        return run

    def failed(self, *overrides: str, message: str = "the disk is full") -> Run:
        """A run that ended in an error at step 240."""
        run = self.begun(*overrides)
        with suppress(OSError), Status(run.folder) as status:
            status.doing("training", 1000)
            status.step = 240
            raise OSError(message)
        return run

    def record(self, run: Run, scoring: str, folder: Path, sim_f: Mapping[str, float]) -> None:
        far = {name: 1 - value for name, value in sim_f.items()}
        metrics = {"sim_f": metric(sim_f), "exp": metric(far, higher_is_better=False)}
        chosen = self.settings()["choices"] | {"select": "target"} if folder != run.folder else {}
        content = {"key": run.key, "scoring": scoring, **chosen, "refs": 4, "seed": 0}
        drawn = {"images": len(sim_f), "faceless": 0, "bounds": {}}
        write_json(folder / "metrics.json", {**content, **drawn, "metrics": metrics})
