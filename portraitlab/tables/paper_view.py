"""A paper's table as people read it: ours beside the paper's, and what the order of rows is worth.

Ours is the mean over seeds ± their standard deviation. The best of a column is bold, in ours and in
the paper's alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portraitlab.tables.comparison import STANDINGS, Comparison, Interval, compare, spread
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result
from portraitlab.tables.table import Table

Failures = Mapping[tuple[str, int], str]
"""Why a row and seed has no result."""
_Cells = Mapping[str, tuple[float, str]]


def paper_view(
    table: PaperTable, results: Sequence[Result], failed: Failures | None = None
) -> Table:
    """The table, with what is known of its figures and of their order as notes."""
    columns, cells = [table.heading], {row.name: [row.name] for row in table.rows}
    for name, up in table.columns.items():
        columns += [f"{name} {'↑' if up else '↓'}", "paper"]
        ours = _bold_best(_ours(table, results, name), up)
        printed = _bold_best(_printed(table, name), up)
        for row in table.rows:
            cells[row.name] += [ours.get(row.name, "missing"), printed.get(row.name, "")]
    notes = [*_about(table, results, failed or {}), *comparisons(table, results)]
    return Table(columns, list(cells.values()), notes)


def comparisons(table: PaperTable, results: Sequence[Result]) -> list[str]:
    """One line for each metric: does it order the rows as the paper does?"""
    compared = [compare(table, results, metric) for metric in table.columns]
    return [_said(each) for each in compared if each is not None]


def _said(compared: Comparison) -> str:
    order = "the order is the paper's" if compared.same_order else "the order is not the paper's"
    tau = f"Kendall's tau {_interval(compared.tau)}"
    if compared.resampled:
        tau += f" over {' and '.join(compared.resampled)}"
    standings = [pair.standing for pair in compared.pairs]
    counts = [f"{standings.count(name)} {name}" for name in STANDINGS]
    of = f"of {len(standings)} pairs of rows {', '.join(counts)}"
    # All pairs of six rows would be fifteen; neighbours say where the order is in doubt.
    leads = [
        f"{pair.better} − {pair.other} {_interval(pair.lead)} {pair.standing}"
        for pair in compared.pairs
        if pair.neighbours
    ]
    return f"{compared.metric}: {order}; {tau}; {of}. Neighbours in the paper: {'; '.join(leads)}."


def _about(table: PaperTable, results: Sequence[Result], failed: Failures) -> list[str]:
    lines = []
    if results:
        seeds = sorted({each.seed for each in results})
        shown = f"seed {seeds[0]}"
        if len(seeds) > 1:
            shown = f"seeds {', '.join(map(str, seeds))}: means ± standard deviation over seeds"
        steps, people = _listed(results, "steps"), _listed(results, "identities")
        size = f"{steps} training steps, {people} people"
        lines.append(f"Ours: {shown}; {size}. The paper's: full size.")
    there = {(each.row, each.seed) for each in results}
    wanted = [(row.name, seed) for row in table.rows for seed in table.seeds]
    missing = [each for each in wanted if each not in there and each not in failed]
    if missing:
        lines.append(f"{len(missing)} of {len(wanted)} results are missing.")
    return [*lines, *(f"{row}, seed {seed}: {why}" for (row, seed), why in failed.items())]


def _ours(table: PaperTable, results: Sequence[Result], metric: str) -> _Cells:
    cells = {}
    for row in table.rows:
        found = spread([each for each in results if each.row == row.name], metric)
        if found is not None:
            mean, deviation = found
            error = "" if deviation is None else f" ±{deviation:.3f}"
            cells[row.name] = mean, f"{mean:.3f}{error}"
    return cells


def _printed(table: PaperTable, metric: str) -> _Cells:
    printed = {row.name: row.paper.get(metric) for row in table.rows}
    return {name: (value, f"{value:g}") for name, value in printed.items() if value is not None}


def _bold_best(cells: _Cells, up: bool) -> dict[str, str]:
    values = [value for value, _ in cells.values()]
    best = (max if up else min)(values) if len(values) > 1 else None
    return {name: f"**{text}**" if value == best else text for name, (value, text) in cells.items()}


def _interval(interval: Interval) -> str:
    text = f"{interval.value:+.3f}"
    if interval.between is None:
        return text
    low, high = interval.between
    return f"{text} [{low:+.3f}, {high:+.3f}]"


def _listed(results: Sequence[Result], name: str) -> str:
    return " or ".join(f"{number:,}" for number in sorted({each.content[name] for each in results}))
