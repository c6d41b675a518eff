"""Write the files of a training and a scoring without running them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from portraitlab.support.files import write_json

PICTURES = ("reference-1", "reference-2", "control-image", "generated", "target")
LINES = [{"step": step, "train/loss": 1 / step, "learning_rate": 0.1} for step in (10, 20, 30, 40)]


def write_record(folder: Path, value: float = 0.5, scoring: str = "first") -> dict[str, Any]:
    """A record with its pictures, as the scoring leaves them."""
    metrics = {
        "sim_f": {"value": value, "error": 0.25, "higher_is_better": True},
        "fid": {"value": 1.0, "error": None, "higher_is_better": False},
        "exp": {"value": None, "error": None, "higher_is_better": False},
    }
    record = {"scoring": scoring, "metrics": metrics, "bounds": {}, "images": 6, "faceless": 2}
    for number, (person, name) in enumerate(product(("anna", "bert"), PICTURES)):
        path = folder / "samples" / person / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    Image.new("RGB", (20, 10)).save(folder / "grid.png")
    write_json(folder / "metrics.json", record)
    return record
