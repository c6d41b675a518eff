"""Write the record of a benchmark: seconds, ratios and machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine(device: torch.device) -> str:
    """Describe a device as in a record."""
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
    return f"{torch.cpu.get_capabilities()['cpu_name']}, {os.cpu_count()} cores"


def save(record: dict[str, Any], path: Path) -> None:
    """Write a record, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}")
    half.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    half.replace(path)


def write(name: str, seconds: dict[str, float], **settings: Any) -> None:
    """Print all ways with their speed relative to the first; write `results/<name>.json`."""
    first = next(iter(seconds.values()))
    record = {
        "machine": machine(torch.device("cpu")),
        "torch": torch.__version__,
        **settings,
        "ways": {
            way: {"seconds": round(taken, 4), "times_as_fast": round(first / taken, 2)}
            for way, taken in seconds.items()
        },
    }
    for way, figures in record["ways"].items():
        print(f"{way:40s} {figures['seconds']:8.4f} s   x {figures['times_as_fast']}")
    save(record, RESULTS / f"{name}.json")
