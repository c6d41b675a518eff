"""A training's losses, short enough to be kept beside its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

POINTS = 80
"""At most so many points are kept."""

Curve = dict[str, list[float | None]]
"""`step` and the losses, as lists of one length; None where a loss was not logged."""


def short_curve(lines: Sequence[Mapping[str, Any]], points: int = POINTS) -> Curve:
    """Means of the losses of neighbouring lines of a metrics.jsonl, and of their steps.

    {} of no lines. What is not finite, which no JSON holds, is left out of the means.
    """
    size = math.ceil(len(lines) / points)
    bins = [lines[start : start + size] for start in range(0, len(lines), size)] if lines else []
    losses = dict.fromkeys(name for line in lines for name in line if name.startswith("train/"))
    names = ["step", *losses] if lines else []
    return {name: [_mean([line.get(name) for line in own]) for own in bins] for name in names}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return round(sum(known) / len(known), 5) if known else None
