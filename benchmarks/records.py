"""The record of a benchmark: seconds, ratios, and the machine that they are of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def write(name: str, seconds: dict[str, float], **settings: Any) -> None:
    """Print the ways with their ratio to the first, and write `results/<name>.json`."""
    first = next(iter(seconds.values()))
    record = {
        "machine": f"{torch.cpu.get_capabilities()['cpu_name']}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        **settings,
        "ways": {
            way: {"seconds": round(taken, 4), "times_as_fast": round(first / taken, 2)}
            for way, taken in seconds.items()
        },
    }
    for way, figures in record["ways"].items():
        print(f"{way:40s} {figures['seconds']:8.4f} s   x {figures['times_as_fast']}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
