"""Write trained weights into the package: fp16 safetensors, and an entry in foundation.json."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

import torch
from torch import nn

from portraitlab.pretraining.loop import Budget
from portraitlab.support.tensor_files import write_tensors
from portraitlab.world.low_rank import low_rank_differences
from portraitlab.world.pretrained import WEIGHTS, load_weights

Model = TypeVar("Model", bound=nn.Module)


def begin(name: str, model: Model, budget: Budget) -> Model:
    """Load the package's weights into `model` if budget.from_shipped is set, and return it."""
    if budget.from_shipped:
        load_weights(name, model)
        model.requires_grad_(True)
    return model


def ship(
    name: str,
    model: nn.Module,
    config: dict[str, Any],
    record: dict[str, Any],
    script: str,
    only: str = "",
    base: nn.Module | None = None,
    rank: int = 0,
    **extra: Any,
) -> None:
    """Write `weights/<name>.safetensors` in fp16 and its entry of `weights/foundation.json`.

    record: training and measured quality; script: module of portraitlab.pretraining that trained
    it, with its arguments; only: part of the names of the weights to write; base: a network from
    which differences of this rank are written in place of weights; extra: numbers that loading
    needs.
    """
    # Write the weights, or their differences from the base.
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    weights = {key: value for key, value in model.state_dict().items() if only in key}
    if base is not None:
        weights = low_rank_differences(weights, base.state_dict(), rank)
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for key, value in weights.items()
    }
    write_tensors(tensors, path)
    # List the file with its training.
    listing = WEIGHTS / "foundation.json"
    entries = json.loads(listing.read_text()) if listing.exists() else {}
    entries[name] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": sum(p.numel() for name, p in model.named_parameters() if only in name),
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
