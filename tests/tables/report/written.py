"""Sweeps on disk as the store writes them, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from portraitlab.runs.run import Run
from portraitlab.runs.status import write_status
from portraitlab.runs.sweep import Sweep, SweepJob
from portraitlab.scoring.pictures import save
from portraitlab.support.files import write_json, write_text
from portraitlab.support.groups import SCORING, TRAINING

PARTS = (*TRAINING, *SCORING, "judge")
PEOPLE = ("ann", "bob", "cy")
BOUND = "autoencoder round trip"


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Make a small resolved configuration with the settings that Run.of reads."""
    fusion, cond = changes.get("fusion", "refiner"), changes.get("cond", "landmarks")
    names = {"system": "paper", "fusion": fusion, "cond": cond, "net": "hifi_net"}
    return {
        **{part: {"_target_": part} for part in PARTS},
        "fusion": {"_target_": fusion, "heads": 2},
        "cond": {"_target_": cond},
        "select": {"_target_": changes.get("select", "random")},
        "data": {"_target_": "data", "cache": str(folder / "cache"), "workers": 2},
        "trainer": {"max_steps": 3, "gradient_clip_val": 1.0, "precision": "32-true"},
        "optimiser": {"learning_rate": float(changes.get("optimiser.learning_rate", 0.002))},
        "refs": 2,
        "score_refs": 2,
        "seed": int(changes.get("seed", 0)),
        "batch_size": 2,
        "prompt_dropout": 0.1,
        "choices": names,
        "runs": str(folder),
        "cache": str(folder / "cache"),
        "group": "a sweep",
    }


def metric(values: Sequence[float | None], up: bool = True) -> dict[str, Any]:
    """Make a metric over PEOPLE, with a standard error if any value is not None."""
    known = [value for value in values if value is not None]
    return {
        "value": sum(known) / len(known) if known else None,
        "error": 0.01 if known else None,
        "higher_is_better": up,
        "method": "cosine of embeddings",
        "by_identity": dict(zip(PEOPLE, values, strict=True)),
    }


def record(run: Run, sim_f: Sequence[float | None], exp: Sequence[float | None]) -> dict[str, Any]:
    return {
        "key": run.key,
        "scoring": run.scoring,
        "images": 3,
        "identities": 3,
        "faceless": 1,
        "metrics": {"sim_f": metric(sim_f), "exp": metric(exp, up=False)},
        "bounds": {
            BOUND: {"sim_f": metric([0.7, 0.8, 0.9]), "exp": metric([0.01, 0.02, 0.03], up=False)}
        },
        "origin": {"commit": "0123456789abcdef"},
    }


@dataclass
class Given:
    """A job to write: its overrides, and people's figures or an error."""

    overrides: Mapping[str, str]
    sim_f: Sequence[float | None] = (0.1, 0.2, 0.3)
    exp: Sequence[float | None] = (0.3, 0.2, 0.1)
    error: str | None = None
    begun: bool = True
    shade: int = 0


def write_run(folder: Path, given: Given) -> SweepJob:
    """Write a run as it is on disk after its job, with pictures of 4 px."""
    config = settings(folder, **given.overrides)
    run = Run.of(config)
    if not given.begun:
        return SweepJob(given.overrides, run)
    run.describe(config)
    lines = [
        {"step": step, "train/loss": 1 / step, "train/noise": 0.5 / step, "learning_rate": 0.1}
        for step in (1, 2, 3)
    ]
    write_text(run.losses, "".join(json.dumps(line) + "\n" for line in lines))
    if given.error is not None:
        trace = f"Traceback (most recent call last):\nValueError: {given.error}"
        write_status(run.folder, "failed", error=given.error, traceback=trace, step=3)
        return SweepJob(given.overrides, run, given.error)
    folder_of_record = run.record_folder
    for place, person in enumerate(PEOPLE):
        colours = {
            **{f"reference-{n}": (10 * n, given.shade, place) for n in (1, 2)},
            "target": (200, given.shade, place),
            "control-image": (0, 0, int(run.key, 16) % 199),
            "generated": (0, int(run.key, 16) % 200, place),
        }
        for name, colour in colours.items():
            picture = Image.new("RGB", (4, 4), colour)
            save(picture, folder_of_record / "samples" / person / f"{name}.png")
    write_json(folder_of_record / "metrics.json", record(run, given.sim_f, given.exp))
    write_status(run.folder, "done")
    return SweepJob(given.overrides, run)


def write_sweep(folder: Path, jobs: Sequence[Given], name: str = "fusion-cond") -> Path:
    """Write a sweep's folder and its runs in a folder of runs."""
    place = folder / "sweeps" / name
    Sweep(place, [write_run(folder, job) for job in jobs]).write()
    return place


FAILURE = "The loss is not finite </script><script>window.attacked = 1</script><img src=x>"
FOUR = (
    Given(
        {"fusion": "refiner", "cond": "landmarks", "runs": "r"}, (0.3, 0.4, 0.5), (0.1, 0.1, 0.1)
    ),
    Given({"fusion": "refiner", "cond": "keypoints", "runs": "r"}, (0.31, 0.38, 0.5)),
    Given({"fusion": "concat", "cond": "landmarks", "runs": "r"}, error=FAILURE),
    Given({"fusion": "concat", "cond": "keypoints", "runs": "r"}, (0.9, 0.1, 1.1), (None,) * 3),
)
