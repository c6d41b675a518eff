"""A paper's table on disk, with results as a command with `table=` leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from portraitlab.runs.key import PROTOCOL
from portraitlab.scoring.pictures import save
from portraitlab.support.files import write_text
from portraitlab.support.paths import EXPERIMENTS
from portraitlab.tables.curve import short_curve
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result, result_path, write_result
from portraitlab.tables.shown import keep_pictures

PEOPLE = [str(310000 + number) for number in range(12)]
SHOWN = 3


def declared(folder: Path, name: str = "table2", seeds: Sequence[int] = (0, 1, 2)) -> PaperTable:
    """HiFi-Portrait's table of this name in another folder, without results."""
    own = PaperTable.read(EXPERIMENTS / "hifi_portrait" / name)
    table = replace(own, folder=folder, seeds=tuple(seeds))
    write_text(folder / "table.yaml", table.declaration())
    return table


def write_results(
    table: PaperTable, without: Sequence[tuple[str, int]] = (), refs: int = 4, shade: int = 0
) -> PaperTable:
    """Results of all rows and seeds but some; refs: references of a portrait.

    shade: brightness of the people's photos, which identifies them.
    """
    for place, row in enumerate(table.rows):
        for seed in table.seeds:
            if (row.name, seed) in without:
                continue
            content = _content(table, row.name, place, seed)
            if seed == table.seeds[0]:
                samples = table.folder.parent / f".samples-{row.slug}"
                _write_samples(samples, place, refs, shade)
                strip = result_path(table.folder, row, seed).with_suffix(".png")
                content["shown"] = keep_pictures(samples, strip)
            write_result(table.folder, row, Result(row.name, seed, content))
    return table


def _content(table: PaperTable, row: str, place: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([place, seed])
    people = np.random.default_rng(0).normal(0, 0.05, len(PEOPLE))
    metrics = {}
    for name, up in table.columns.items():
        values = 0.4 + 0.03 * place + people + rng.normal(0, 0.02, len(PEOPLE))
        metrics[name] = {
            "value": float(values.mean()),
            "error": 0.01,
            "higher_is_better": up,
            "method": "cosine",
            "by_identity": dict(zip(PEOPLE, values.tolist(), strict=True)),
        }
    machine = {"processor": "a processor", "cores": 2, "gpus": []}
    origin = {"commit": "0123456789abcdef", "versions": {"torch": "2"}, "machine": machine}
    return {
        "row": row,
        "seed": seed,
        "key": f"{place:04x}{seed:04x}",
        "scoring": "5c0a1234",
        "training_seconds": 60.0,
        "scoring_seconds": 30.0,
        "steps": 8000,
        "images": len(PEOPLE),
        "identities": len(PEOPLE),
        "faceless": 0,
        "metrics": metrics,
        "bounds": {},
        "settings": {},
        "protocol": PROTOCOL,
        "trained_by": origin,
        "origin": origin,
        "curve": short_curve(_log(place, rng)),
    }


def _log(place: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """400 lines of losses; the identity's is not logged at every step."""
    lines = []
    for number in range(400):
        loss = 0.3 + (0.6 - 0.05 * place) * np.exp(-number / 80) + 0.03 * rng.normal()
        line = {"step": 20 * (number + 1), "train/loss": loss, "train/noise": loss / 2}
        if number % 3 == 0:
            line["train/identity"] = 1.5 * loss
        lines.append({**line, "learning_rate": 0.002})
    return json.loads(json.dumps(lines))


def _write_samples(folder: Path, place: int, refs: int, shade: int) -> None:
    names = ["target", *(f"reference-{number}" for number in range(1, refs + 1))]
    for number, person in enumerate(PEOPLE[:SHOWN]):
        for look, name in enumerate(names):
            colour = (40 * number + 60, 30 * look, shade)
            save(Image.new("RGB", (8, 8), colour), folder / person / f"{name}.png")
        drawn = Image.new("RGB", (8, 8), (40 * number + 60, 200, 20 * place))
        save(drawn, folder / person / "generated.png")
