"""Compare two rows identity by identity, so that the difficulty of each person cancels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import NamedTuple


class PairedDifference(NamedTuple):
    """Mean difference over the shared identities, and its standard error.

    Both are NaN without a shared identity; the error is NaN also with only one.
    """

    difference: float
    error: float
    identities: int


def paired_difference(
    minuend: Mapping[str, float], subtrahend: Mapping[str, float]
) -> PairedDifference:
    """Subtract the subtrahend; both are figures by identity, as a record's `by_identity`."""
    each = [minuend[name] - subtrahend[name] for name in minuend if name in subtrahend]
    error = stdev(each) / math.sqrt(len(each)) if len(each) > 1 else math.nan
    return PairedDifference(fmean(each) if each else math.nan, error, len(each))
