"""Is the order of a table's rows the paper's, and which rows does the evidence tell apart?

Rows are compared under the same people, targets and noise, so people are resampled for all rows
together; seeds too, by their place. What is resampled is what another experiment would draw anew.
A metric of all people together, as FID is, has seeds alone. Of so few a bootstrap promises too much
(an interval of 95 % from three holds the truth in 68 of 100), so Student's t takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, t

from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result

RESAMPLES = 1000
"""Bootstrap draws; intervals are from their 2.5th to their 97.5th percentile."""

STANDINGS = ("as the paper", "reversed", "not separated")
"""What two rows are found to be: the better of the paper's is better here, worse, or neither."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; None where neither people nor seeds say how it varies."""

    value: float
    between: tuple[float, float] | None


@dataclass(frozen=True)
class Pair:
    """Two rows that the paper tells apart: how much better (in the metric's own unit, so that more
    is better) the paper's better row is here. neighbours: no third row stands between them in the
    paper.
    """

    better: str
    other: str
    lead: Interval
    neighbours: bool

    @property
    def standing(self) -> str:
        """As the paper, reversed, or not separated: the interval holds no difference."""
        low, high = self.lead.between or (self.lead.value, self.lead.value)
        if self.lead.between is None or low <= 0 <= high:
            return "not separated"
        return "as the paper" if low > 0 else "reversed"


@dataclass(frozen=True)
class Comparison:
    """How a metric orders the rows, beside how the paper's does.

    tau: Kendall's tau-b of the two orders, 1 where they are the same, -1 where they are reversed,
    less far from 0 where rows are alike in the paper; its interval is over people and seeds, and
    None where a metric is of all people together. seeds: that all rows have, which are compared.
    varies: what the intervals are over, of `people` and `seeds`. pairs: of rows that differ in the
    paper, from its best down.
    """

    metric: str
    tau: Interval
    seeds: tuple[int, ...]
    varies: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @property
    def same_order(self) -> bool:
        """Whether our means have the paper's order."""
        return all(pair.lead.value > 0 for pair in self.pairs)


def compare(
    table: PaperTable, results: Sequence[Result], metric: str, resamples: int = RESAMPLES
) -> Comparison | None:
    """Compare one metric's order of rows with the paper's.

    Rows that have results and a figure in the paper take part, with the seeds that all of them
    have; None where that leaves no seed, no person, or fewer than two rows.
    """
    measured = _measured(table, results, metric)
    if len(measured) < 2:
        return None
    sign = 1.0 if table.columns[metric] else -1.0
    printed = {row.name: sign * row.paper[metric] for row in table.rows if metric in row.paper}
    rows = sorted(measured, key=printed.__getitem__, reverse=True)
    paper = np.array([printed[name] for name in rows])
    found = _values([measured[name] for name in rows], metric)
    if found is None:
        return None
    values, varies = sign * found[0], found[1]
    drawn = _resampled(values, varies, resamples)
    means = values.mean(axis=(1, 2))
    return Comparison(
        metric,
        Interval(
            _tau(means, paper),
            None if drawn is None else _between([_tau(draw, paper) for draw in drawn]),
        ),
        tuple(sorted(measured[rows[0]])),
        varies,
        tuple(
            _pair(rows, paper, values, drawn, one, other)
            for one, other in combinations(range(len(rows)), 2)
            if paper[one] != paper[other]
        ),
    )


def spread(results: Sequence[Result], metric: str) -> tuple[float, float | None] | None:
    """Mean of a row's results and their standard deviation over seeds, None of one seed.

    None where the metric was not measured.
    """
    values = [value for each in results if (value := each.value(metric)) is not None]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def row_interval(
    results: Sequence[Result], metric: str, resamples: int = RESAMPLES
) -> Interval | None:
    """Mean of a row's results, and its interval over people and seeds.

    None where the metric was not measured, or of other people with each seed.
    """
    measured = {
        each.seed: each.metrics[metric] for each in results if each.value(metric) is not None
    }
    found = _values([measured], metric) if measured else None
    if found is None:
        return None
    values, varies = found
    drawn = _resampled(values, varies, resamples)
    own = values[0].mean(axis=1)
    return Interval(float(own.mean()), _student(own) if drawn is None else _between(drawn[:, 0]))


def row_difference(
    one: Sequence[Result], other: Sequence[Result], metric: str, resamples: int = RESAMPLES
) -> Interval | None:
    """Mean of a row's results less another's, over the seeds that both have, and its interval.

    None where there is no such seed, or nobody was measured in both rows.
    """
    rows = [
        {each.seed: each.metrics[metric] for each in row if each.value(metric) is not None}
        for row in (one, other)
    ]
    seeds = rows[0].keys() & rows[1].keys()
    found = (
        _values([{seed: row[seed] for seed in seeds} for row in rows], metric) if seeds else None
    )
    if found is None:
        return None
    values, varies = found
    return _lead(values, _resampled(values, varies, resamples), 0, 1)


def _measured(
    table: PaperTable, results: Sequence[Result], metric: str
) -> dict[str, dict[int, Mapping[str, Any]]]:
    """By row with a figure in the paper, and by seed, the record's metric."""
    rows: dict[str, dict[int, Mapping[str, Any]]] = {}
    printed = {row.name for row in table.rows if metric in row.paper}
    for each in results:
        if each.row in printed and each.value(metric) is not None:
            rows.setdefault(each.row, {})[each.seed] = each.metrics[metric]
    shared = sorted(set[int].intersection(*map(set, rows.values()))) if rows else []
    return {name: {seed: seeds[seed] for seed in shared} for name, seeds in rows.items() if shared}


def _values(
    rows: Sequence[Mapping[int, Mapping[str, Any]]], metric: str
) -> tuple[Array, tuple[str, ...]] | None:
    """[rows, seeds, people], with one person where a metric is of all together; what varies.

    None where nobody was measured in all rows and seeds, as may be where faces are missing.
    """
    figures = [[row[seed] for seed in sorted(row)] for row in rows]
    varies = ("seeds",) if len(figures[0]) > 1 else ()
    if not all("by_identity" in figure for row in figures for figure in row):
        return np.array([[[figure["value"]] for figure in row] for row in figures]), varies
    known = [figure["by_identity"] for row in figures for figure in row]
    people = sorted(
        name
        for name in set(known[0]).intersection(*known)
        if all(each[name] is not None for each in known)
    )
    if not people:
        return None
    own = [[figure["by_identity"] for figure in row] for row in figures]
    values = [[[each[name] for name in people] for each in row] for row in own]
    return np.array(values), ("people", *varies)


def _resampled(values: Array, varies: Sequence[str], resamples: int) -> Array | None:
    """Means of rows [resamples, rows] of resampled people and seeds; None where no people are."""
    if "people" not in varies:
        return None
    _, seeds, people = values.shape
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(resamples):
        drawn = values[:, rng.integers(seeds, size=seeds)]
        draws.append(drawn[:, :, rng.integers(people, size=people)].mean(axis=(1, 2)))
    return np.array(draws)


def _pair(
    rows: Sequence[str], paper: Array, values: Array, drawn: Array | None, one: int, other: int
) -> Pair:
    neighbours = not any(paper[other] < value < paper[one] for value in paper)
    return Pair(rows[one], rows[other], _lead(values, drawn, one, other), neighbours)


def _lead(values: Array, drawn: Array | None, one: int, other: int) -> Interval:
    """One row's mean less another's; values [rows, seeds, people], drawn as of _resampled."""
    by_seed = (values[one] - values[other]).mean(axis=1)
    return Interval(
        float(by_seed.mean()),
        _student(by_seed) if drawn is None else _between(drawn[:, one] - drawn[:, other]),
    )


def _student(by_seed: Array) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean of figures [seeds]; None of one."""
    if len(by_seed) < 2:
        return None
    mean, error = by_seed.mean(), by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    reach = t.ppf(0.975, len(by_seed) - 1) * error
    return float(mean - reach), float(mean + reach)


def _tau(ours: Array, paper: Array) -> float:
    return float(kendalltau(ours, paper).statistic)


def _between(values: Sequence[float] | Array) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
