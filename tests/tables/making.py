"""Tables and results written in a moment, in the format of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from portraitlab.runs.key import PROTOCOL
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result, write_result

PEOPLE = [str(number) for number in range(40)]
PAPER = {"worst": 10.0, "middle": 20.0, "best": 30.0}


def people(mean: float, noise: float = 0.0, seed: int = 0) -> dict[str, float]:
    drawn = np.random.default_rng(seed).normal(mean, noise, len(PEOPLE))
    return dict(zip(PEOPLE, drawn.tolist(), strict=True))


def declare(folder: Path, seeds: tuple[int, ...] = (0, 1, 2), **changed: Any) -> PaperTable:
    """A table of three rows, of which the paper prints a score and an error."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        name: {"overrides": {"fusion": name}, "paper": {"score": value, "error": 100 - value}}
        for name, value in PAPER.items()
    }
    content = {
        "title": "A paper, Table 1: rows",
        "paper": "A paper (2026)",
        "overrides": {"system": "hifi_portrait", "budget": "full"},
        "seeds": list(seeds),
        "heading": "row",
        "columns": {"score": "up", "error": "down"},
        "rows": rows,
    }
    (folder / "table.yaml").write_text(yaml.safe_dump({**content, **changed}, sort_keys=False))
    return PaperTable.read(folder)


def metric(by_identity: Mapping[str, float], up: bool = True) -> dict[str, Any]:
    values = list(by_identity.values())
    return {
        "value": sum(values) / len(values),
        "error": 0.01,
        "samples": len(values),
        "identities": len(values),
        "higher_is_better": up,
        "method": "cosine",
        "by_identity": dict(by_identity),
    }


def result(row: str, seed: int, by_identity: Mapping[str, float]) -> Result:
    """A result whose score is given by person, and whose error is what lacks to 1."""
    error = {name: 1 - value for name, value in by_identity.items()}
    content = {
        "row": row,
        "seed": seed,
        "key": f"{row}{seed}",
        "scoring": "s",
        "steps": 1000,
        "images": len(by_identity),
        "identities": len(by_identity),
        "faceless": 0,
        "metrics": {"score": metric(by_identity), "error": metric(error, up=False)},
        "bounds": {
            "another identity": {"score": {"value": 0.0, "error": 0.01, "higher_is_better": True}}
        },
        "training_seconds": 90.0,
        "scoring_seconds": 30.0,
        "settings": {"fusion": row},
        "protocol": PROTOCOL,
        "trained_by": None,
        "origin": {
            "commit": "0123456789abcdef",
            "versions": {"torch": "2.15.0"},
            "machine": {"processor": "a processor", "cores": 2, "gpus": []},
        },
    }
    return Result(row, seed, content)


def fill(table: PaperTable, scores: Mapping[str, Mapping[int, Mapping[str, float]]]) -> None:
    """Write results: scores by row, seed and person."""
    for row in table.rows:
        for seed, by_identity in scores.get(row.name, {}).items():
            write_result(table.folder, row, result(row.name, seed, by_identity))
