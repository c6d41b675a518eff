"""Plant faults in a trained run's scoring and see which figures notice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from portraitlab.bench import Bench
from portraitlab.records import plain, trained_run, write_json
from portraitlab.scoring import draw, measure
from portraitlab.tables.sensitivity import sensitivity_table
from portraitlab.task.faults import Fault


class Sensitivity:
    """Draws the held-out samples as they are and once under each fault, from the same noise.

    faults: by name. run: a run's folder, or None for the run that the configuration describes.
    """

    def __init__(self, faults: Mapping[str, Fault], run: str | None = None) -> None:
        self.faults = faults
        self.run = run

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Differences by fault and metric, also written to the run's `sensitivity.json`.

        Raises NoRun (a ValueError) where nothing was trained.
        """
        run = trained_run(plain(config), self.run)
        bench = Bench.of(config)
        bench.load(run.weights)
        sound = self._figures(bench, config, None)
        differences = {
            name: {
                "moves": list(fault.moves),
                "metrics": paired(sound, self._figures(bench, config, fault)),
            }
            for name, fault in self.faults.items()
        }
        record = {
            "key": run.key, "scoring": run.scoring, "seed": config.seed,
            "steps": config.budget.steps, "metrics": sound, "faults": differences,
        }  # fmt: skip
        write_json(run.folder / "sensitivity.json", record)
        sensitivity_table(record).show()
        print(f"record: {run.folder / 'sensitivity.json'}")
        return record

    def _figures(self, bench: Bench, config: DictConfig, fault: Fault | None) -> dict[str, Any]:
        parts = bench.parts
        model, size = parts.model.to(parts.device), config.scale.score_batch_size
        drawn = partial(draw, model, bench.sampler, bench.scoring, size, parts.device)
        if fault is None:
            portraits = drawn()
        else:
            change = partial(fault.change, photos=bench.photos, frozen=parts.frozen)
            with fault.planted(model):
                portraits = drawn(change=change)
        figures = measure(portraits, bench.photos, model, bench.judge, bench.metrics, parts.device)
        metrics: dict[str, Any] = figures["metrics"]
        return metrics


def paired(sound: Mapping[str, Any], faulty: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By metric: how much the fault changed it, and the standard error of the paired difference.

    Identities are paired with themselves, so that what is hard about a person cancels. The error
    is None for figures that are no mean over identities, or where fewer than two are shared.
    """
    differences: dict[str, dict[str, Any]] = {}
    for name, before in sound.items():
        after = faulty[name]
        own, other = before.get("by_identity", {}), after.get("by_identity", {})
        shared = [identity for identity in own if identity in other]
        if not shared:
            known = before["value"] is not None and after["value"] is not None
            change = after["value"] - before["value"] if known else None
            differences[name] = {"difference": change, "error": None}
            continue
        each = torch.tensor([other[i] - own[i] for i in shared], dtype=torch.double)
        error = float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else None
        differences[name] = {
            "difference": round(float(each.mean()), 6),
            "error": None if error is None else round(error, 6),
        }
    return differences
