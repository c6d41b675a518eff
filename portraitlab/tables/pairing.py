"""Two figures compared identity by identity, so that what is hard about a person cancels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import NamedTuple


class PairedDifference(NamedTuple):
    """Mean difference over the identities that both know, and its standard error.

    Both are NaN without a shared identity, the error also with one alone.
    """

    difference: float
    error: float
    identities: int


def paired_difference(
    minuend: Mapping[str, float], subtrahend: Mapping[str, float]
) -> PairedDifference:
    """minuend less subtrahend; both give a figure by identity, as records do (`by_identity`)."""
    each = [minuend[name] - subtrahend[name] for name in minuend if name in subtrahend]
    error = stdev(each) / math.sqrt(len(each)) if len(each) > 1 else math.nan
    return PairedDifference(fmean(each) if each else math.nan, error, len(each))
