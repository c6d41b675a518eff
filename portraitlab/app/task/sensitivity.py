"""Plant faults in a trained run's scoring and measure which figures react."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig

from portraitlab.app.experiment import Bench
from portraitlab.app.task.faults import Fault
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.scoring.draw import draw
from portraitlab.scoring.measure import measure
from portraitlab.support.files import write_json
from portraitlab.tables.pairing import paired_difference
from portraitlab.tables.sensitivity import sensitivity_table


class Sensitivity:
    """A task that draws the held-out samples without and under each fault, from the same noise.

    faults: faults to plant, by name. run: a run's folder, or None for the run that the
    configuration describes.
    """

    def __init__(self, faults: Mapping[str, Fault], run: str | None = None) -> None:
        self.faults = faults
        self.run = run

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Return differences by fault and metric, also in sensitivity.json beside the record.

        Raises NoRun (a ValueError) without a trained run.
        """
        run = Run.of(plain(config), self.run)
        run.require_weights()
        bench = Bench.of(config)
        bench.load(run)
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
        path = run.record_folder / "sensitivity.json"
        write_json(path, record)
        sensitivity_table(record).show()
        print(f"record: {path}")
        return record

    def _figures(self, bench: Bench, config: DictConfig, fault: Fault | None) -> dict[str, Any]:
        assert bench.judge is not None
        parts = bench.parts
        model, size = parts.model.to(parts.device), config.scale.score_batch_size
        drawn = partial(
            draw, model, bench.sampler, bench.scoring, size, parts.device,
            precision=config.precision,
        )  # fmt: skip
        if fault is None:
            portraits = bench.edited(drawn())
        else:
            change = partial(fault.change, photos=bench.photos, frozen=parts.frozen)
            with fault.planted(model):
                portraits = bench.edited(drawn(change=change))
        figures = measure(
            *(portraits, bench.photos, bench.real, model, bench.judge, bench.metrics, size),
            parts.device,
        )
        metrics: dict[str, Any] = figures["metrics"]
        return metrics


def paired(sound: Mapping[str, Any], faulty: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the change of each metric by a fault, and the standard error of the paired difference.

    Identities are paired with themselves, so that the difficulty of each person cancels. The error
    is None for figures that are not means over identities, or where fewer than two are shared.
    """
    differences: dict[str, dict[str, Any]] = {}
    for name, before in sound.items():
        after = faulty[name]
        own, other = before.get("by_identity", {}), after.get("by_identity", {})
        difference, error, shared = paired_difference(other, own)
        if not shared and None not in (before["value"], after["value"]):
            difference = after["value"] - before["value"]
        differences[name] = {"difference": _number(difference), "error": _number(error)}
    return differences


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
