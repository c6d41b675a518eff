"""Put trained weights into the package: fp16 safetensors, and a line in foundation.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def ship(
    name: str,
    model: nn.Module,
    config: dict[str, Any],
    record: dict[str, Any],
    script: str,
    **extra: Any,
) -> None:
    """Write `weights/<name>.safetensors` in fp16 and its entry of `weights/foundation.json`.

    record: how it was trained and what quality was measured; script: what trained it, below
    portraitlab.world.train, with its arguments; extra: numbers that loading needs.
    """
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for key, value in model.state_dict().items()
    }
    save_file(tensors, path)
    listing = WEIGHTS / "foundation.json"
    entries = json.loads(listing.read_text()) if listing.exists() else {}
    entries[name] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "config": config,
        **extra,
        "training": {
            "command": f"python -m {__package__}.{script} --minutes {record['minutes']:g}",
            "torch": torch.__version__,
            **record,
        },
    }
    listing.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    print(f"{name}: shipped {path.stat().st_size / 2**20:.1f} MiB to {path}", flush=True)
