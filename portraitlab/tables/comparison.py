"""Compare the order of a table's rows with the paper's, and test which rows differ.

Rows are compared under the same people, targets and noise, so that the difficulty of each person
cancels. A difference of two rows varies with the training seeds and with the people; its interval
includes the variance of both, by Student's t, since there are as few as three seeds (`student`). A
metric of all people together, such as FID, varies with seeds only. Kendall's tau has no such
formula: people and seeds are resampled for all rows together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result

RESAMPLES = 1000
"""Bootstrap draws for tau; its interval is from their 2.5th to their 97.5th percentile."""

STANDINGS = ("as the paper", "reversed", "not separated")
"""Outcomes for two rows: the paper's better row is better in ours, worse, or neither."""

ORDERS = ("the paper's", "not the paper's", "undecided")
"""Outcomes for all pairs: each as the paper, at least one reversed, or neither."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; None where neither people nor seeds vary."""

    value: float
    between: tuple[float, float] | None


@dataclass(frozen=True)
class RowPair:
    """Two rows that differ in the paper, and by how much its better row is better in ours.

    lead: in the metric's unit; positive is better. neighbours: no third row is between them in the
    paper.
    """

    better: str
    other: str
    lead: Interval
    neighbours: bool

    @property
    def standing(self) -> str:
        """One of STANDINGS; not separated where the interval contains 0."""
        low, high = self.lead.between or (self.lead.value, self.lead.value)
        if self.lead.between is None or low <= 0 <= high:
            return "not separated"
        return "as the paper" if low > 0 else "reversed"


@dataclass(frozen=True)
class Comparison:
    """A metric's order of the rows, compared with the paper's.

    tau: Kendall's tau-b of the two orders: 1 for the same, -1 for the reverse, nearer 0 where rows
    are equal in the paper. Its interval is over people and seeds, None for a metric of all people
    together. seeds: those that all rows have; only they are compared. varies: which of `people` and
    `seeds` the intervals are over. pairs: rows that differ in the paper, from its best down.
    """

    metric: str
    tau: Interval
    seeds: tuple[int, ...]
    varies: tuple[str, ...]
    pairs: tuple[RowPair, ...]

    @property
    def order(self) -> str:
        """One of ORDERS; the paper's only where intervals separate every pair in its direction."""
        standings = {pair.standing for pair in self.pairs}
        if "reversed" in standings:
            return "not the paper's"
        return "undecided" if "not separated" in standings else "the paper's"


def compare(
    table: PaperTable, results: Sequence[Result], metric: str, resamples: int = RESAMPLES
) -> Comparison | None:
    """Compare one metric's order of rows with the paper's.

    Compared are the rows with results and a figure in the paper, over the seeds that all of them
    have. None where that leaves no seed, no person, or fewer than two rows.
    """
    # Sort the rows by the paper's figures, the best first.
    measured = _measured(table, results, metric)
    if len(measured) < 2:
        return None
    sign = 1.0 if table.columns[metric] else -1.0
    printed = {row.name: sign * row.paper[metric] for row in table.rows if metric in row.paper}
    rows = sorted(measured, key=printed.__getitem__, reverse=True)
    paper = np.array([printed[name] for name in rows])

    # Resample people and seeds for tau's interval.
    found = _values([measured[name] for name in rows], metric)
    if found is None:
        return None
    values, varies = sign * found[0], found[1]
    drawn = _resampled(values, varies, resamples)
    means = values.mean(axis=(1, 2))
    return Comparison(
        metric,
        Interval(
            float(kendall_tau(means, paper)),
            None if drawn is None else _percentiles(kendall_tau(drawn, paper)),
        ),
        tuple(sorted(measured[rows[0]])),
        varies,
        tuple(
            _pair(rows, paper, values, one, other)
            for one, other in combinations(range(len(rows)), 2)
            if paper[one] != paper[other]
        ),
    )


def spread(results: Sequence[Result], metric: str) -> tuple[float, float | None] | None:
    """Return the mean of a row's results and their standard deviation over seeds.

    The deviation is None for one seed. None where the metric was not measured.
    """
    values = [value for each in results if (value := each.value(metric)) is not None]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def row_interval(results: Sequence[Result], metric: str) -> Interval | None:
    """Return the mean of a row's results, and its interval over people and seeds.

    None where the metric was not measured, or the seeds share no person.
    """
    measured = {
        each.seed: each.metrics[metric] for each in results if each.value(metric) is not None
    }
    found = _values([measured], metric) if measured else None
    return None if found is None else student(found[0][0])


def row_difference(one: Sequence[Result], other: Sequence[Result], metric: str) -> Interval | None:
    """Return the mean difference of two rows over the seeds that both have, and its interval.

    None where there is no such seed, or no person was measured in both rows.
    """
    rows = [
        {each.seed: each.metrics[metric] for each in row if each.value(metric) is not None}
        for row in (one, other)
    ]
    seeds = rows[0].keys() & rows[1].keys()
    found = (
        _values([{seed: row[seed] for seed in seeds} for row in rows], metric) if seeds else None
    )
    return None if found is None else student(found[0][0] - found[0][1])


def student(values: Array) -> Interval:
    """Return the mean of figures [seeds, people] and its 95 % interval by Student's t.

    The half-width is the root of the sum of squares of those for the seeds' means and for the
    people's means. Variation that belongs to a seed with a person counts in both, which errs on the
    wide side. A single seed, or a single person (a figure of all people together), contributes
    nothing; with one of each there is no interval.
    """
    parts = [means for means in (values.mean(axis=1), values.mean(axis=0)) if len(means) > 1]
    mean = float(values.mean())
    if not parts:
        return Interval(mean, None)
    reach = sum(
        t.ppf(0.975, len(means) - 1) ** 2 * means.var(ddof=1) / len(means) for means in parts
    )
    return Interval(mean, (float(mean - reach**0.5), float(mean + reach**0.5)))


def _measured(
    table: PaperTable, results: Sequence[Result], metric: str
) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Return the metric by row and seed: rows with a figure in the paper, seeds that all have."""
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
    """Return figures [rows, seeds, people] and what varies, of `people` and `seeds`.

    A metric of all people together has one person. None where no person was measured in all rows
    and seeds, e.g. where faces are missing.
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
    """Resample people and seeds to means [resamples, rows]; None where people do not vary."""
    if "people" not in varies:
        return None
    _, seeds, people = values.shape
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(resamples):
        drawn = values[:, rng.integers(seeds, size=seeds)]
        draws.append(drawn[:, :, rng.integers(people, size=people)].mean(axis=(1, 2)))
    return np.array(draws)


def _pair(rows: Sequence[str], paper: Array, values: Array, one: int, other: int) -> RowPair:
    neighbours = not any(paper[other] < value < paper[one] for value in paper)
    return RowPair(rows[one], rows[other], student(values[one] - values[other]), neighbours)


def kendall_tau(ours: Array, paper: Array) -> Array:
    """Return Kendall's tau-b of figures [..., rows] with the paper's [rows], NaN if all tie.

    scipy's kendalltau has no axis up to version 1.15, and a call for each resample was half of the
    time of a table's page.
    """
    one, other = np.triu_indices(len(paper), 1)
    mine, theirs = (np.sign(each[..., one] - each[..., other]) for each in (ours, paper))
    untied = np.abs(mine).sum(-1) * np.abs(theirs).sum(-1)
    with np.errstate(invalid="ignore"):
        tau: Array = (mine * theirs).sum(-1) / np.sqrt(untied)
    return tau


def _percentiles(values: Array) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
