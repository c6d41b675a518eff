"""Shorten a training's losses to a curve that is stored beside its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

POINTS = 80
"""Most points of a curve."""

Curve = dict[str, list[float | None]]
"""`step` and the losses, as lists of the same length; None where a loss was not logged."""


def short_curve(lines: Sequence[Mapping[str, Any]], points: int = POINTS) -> Curve:
    """Average losses and steps over neighbouring lines of a metrics.jsonl.

    {} without lines. Values that are not finite, which JSON cannot represent, are left out.
    """
    size = math.ceil(len(lines) / points)
    bins = [lines[start : start + size] for start in range(0, len(lines), size)] if lines else []
    losses = dict.fromkeys(name for line in lines for name in line if name.startswith("train/"))
    names = ["step", *losses] if lines else []
    return {name: [_mean([line.get(name) for line in own]) for own in bins] for name in names}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return round(sum(known) / len(known), 5) if known else None
