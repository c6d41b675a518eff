"""Views of a paper's table: our figures beside the paper's, and the evidence for the order of rows.

Our figures are means over seeds ± their standard deviation. The best of a column is bold, both in
ours and in the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portraitlab.support.table import Table
from portraitlab.tables.comparison import (
    STANDINGS,
    Comparison,
    Interval,
    compare,
    row_difference,
    spread,
)
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result
from portraitlab.tables.writing import decimals, metric_name, signed

Failures = Mapping[tuple[str, int], str]
"""Reasons for missing results, by row and seed."""
_Cells = Mapping[str, tuple[float, str]]


def paper_view(
    table: PaperTable, results: Sequence[Result], failed: Failures | None = None
) -> Table:
    """Tabulate our figures beside the paper's, with notes on seeds, steps and missing results."""
    columns, cells = [table.heading], {row.name: [row.name] for row in table.rows}
    for name, up in table.columns.items():
        columns.append(f"{metric_name(name)} {'↑' if up else '↓'}")
        ours = _bold_best(_our_cells(table, results, name), up)
        for row in table.rows:
            cells[row.name].append(ours.get(row.name, "missing"))
        printed = _bold_best(_paper_cells(table, name), up)
        if printed:
            columns.append("paper")
            for row in table.rows:
                cells[row.name].append(printed.get(row.name, ""))
    return Table(columns, list(cells.values()), _notes(table, results, failed or {}))


def order_views(table: PaperTable, results: Sequence[Result]) -> list[Table]:
    """Tabulate for each metric whether it orders the rows as the paper, and neighbouring rows.

    Of a table that no paper has, tabulate for each metric by how much the best row leads each of
    the others. Empty where no metric has two rows to compare.
    """
    if not table.in_a_paper:
        leads = _leads(table, results)
        return [leads] if leads.rows else []
    found = [compare(table, results, metric) for metric in table.columns]
    compared = [each for each in found if each is not None]
    return [_orders(compared), _neighbours(table, results, compared)] if compared else []


def _leads(table: PaperTable, results: Sequence[Result]) -> Table:
    """Tabulate the lead of each metric's best row over every other row, with its interval."""
    # Compare the best row of each metric with the others.
    by_row = {row.name: [each for each in results if each.row == row.name] for row in table.rows}
    lines = []
    for metric, up in table.columns.items():
        sign, digits = (1.0 if up else -1.0), _digits(table, results, metric)
        means = {name: sign * mean for name, (mean, _) in _spreads(table, results, metric).items()}
        ranked = sorted(means, key=means.__getitem__, reverse=True)
        for other in ranked[1:]:
            lead = row_difference(by_row[ranked[0]], by_row[other], metric)
            if lead is None:
                continue
            # Reverse the difference where lower is better.
            if up:
                ahead = lead
            elif lead.between is None:
                ahead = Interval(-lead.value, None)
            else:
                ahead = Interval(-lead.value, (-lead.between[1], -lead.between[0]))
            separated = ahead.between is not None and ahead.between[0] > 0
            lines.append(
                [
                    metric_name(metric),
                    table.row_label(ranked[0]),
                    table.row_label(other),
                    signed(ahead.value, digits),
                    _interval_text(ahead, digits),
                    "yes" if separated else "no",
                ]
            )
    # Explain the columns.
    columns = ["metric", "best row", "than", "better by", "95 % interval", "separated"]
    notes = [
        "Two rows are separated where the 95 % interval of their difference, by Student's t over "
        "seeds and people, does not contain 0; + is better, ↑ and ↓ alike. The best row is "
        "selected by these figures, so its leads are overestimated."
    ]
    return Table(columns, lines, notes)


def plain_numbers(table: PaperTable, results: Sequence[Result]) -> Table:
    """Tabulate the figures of paper_view for programs: a number a cell, empty where missing."""
    columns, cells = [table.heading, "seeds"], {row.name: [row.name] for row in table.rows}
    for row in table.rows:
        cells[row.name].append(str(sum(each.row == row.name for each in results)))
    for name in table.columns:
        columns += [name, f"{name} deviation", f"{name} paper"]
        for row in table.rows:
            own = spread([each for each in results if each.row == row.name], name) or (None, None)
            figures = (*own, row.paper.get(name))
            cells[row.name] += ["" if each is None else f"{each:.6g}" for each in figures]
    return Table(columns, list(cells.values()))


def _orders(compared: Sequence[Comparison]) -> Table:
    # Summarise each metric's pairs.
    lines = []
    for each in compared:
        standings = [pair.standing for pair in each.pairs]
        lines.append(
            [
                metric_name(each.metric),
                each.order,
                signed(each.tau.value, 3),
                _interval_text(each.tau, 3),
                _sampled(each),
                str(len(standings)),
                *(str(standings.count(name)) for name in STANDINGS),
            ]
        )
    # Explain the columns.
    notes = [
        "The order is the paper's where every pair of rows is as in the paper, not the paper's "
        "where one is reversed, else undecided. Two rows are not separated where the 95 % interval "
        "of their difference, by Student's t over seeds and people, contains 0. Kendall's tau, of "
        "the means alone, is +1 for the paper's order and −1 for its reverse."
    ]
    whole = [metric_name(each.metric) for each in compared if "people" not in each.varies]
    if whole:
        notes.append(
            f"{', '.join(whole)}: one value for all people, so intervals cover seeds only and need "
            "two seeds; tau has no interval."
        )
    columns = ["metric", "order of rows", "Kendall's tau", "95 % interval", "over", "pairs"]
    return Table([*columns, *STANDINGS], lines, notes)


def _neighbours(
    table: PaperTable, results: Sequence[Result], compared: Sequence[Comparison]
) -> Table:
    """Tabulate neighbours only: six rows have 15 pairs, and neighbours show any doubtful order."""
    lines = []
    for each in compared:
        digits = _digits(table, results, each.metric)
        lines += [
            [
                metric_name(each.metric),
                table.row_label(pair.better),
                table.row_label(pair.other),
                signed(pair.lead.value, digits),
                _interval_text(pair.lead, digits),
                pair.standing,
            ]
            for pair in each.pairs
            if pair.neighbours
        ]
    columns = ["metric", "better in the paper", "than", "better here by", "95 % interval", "here"]
    notes = ["Neighbours in the paper's order, from its best row down; + is better, ↑ and ↓ alike."]
    return Table(columns, lines, notes)


def _sampled(compared: Comparison) -> str:
    seeds = f"seed{'s' * (len(compared.seeds) > 1)} {', '.join(map(str, compared.seeds))}"
    if len(compared.seeds) == 1:
        seeds += " alone"
    return f"people, {seeds}" if "people" in compared.varies else seeds


def _notes(table: PaperTable, results: Sequence[Result], failed: Failures) -> list[str]:
    lines = []
    if results:
        seeds = sorted({each.seed for each in results})
        shown = f"seed {seeds[0]}"
        if len(seeds) > 1:
            shown = f"seeds {', '.join(map(str, seeds))}: means ± standard deviation over seeds"
        steps, people = _numbers_of(results, "steps"), _numbers_of(results, "identities")
        size = f"{steps} training steps, {people} people"
        lines.append(f"Ours: {shown}; {size}. The paper's: full size.")
    there = {(each.row, each.seed) for each in results}
    wanted = [(row.name, seed) for row in table.rows for seed in table.seeds]
    missing = [each for each in wanted if each not in there and each not in failed]
    if missing:
        lines.append(f"{len(missing)} of {len(wanted)} results are missing.")
    return [*lines, *(f"{row}, seed {seed}: {why}" for (row, seed), why in failed.items())]


def _our_cells(table: PaperTable, results: Sequence[Result], metric: str) -> _Cells:
    digits, cells = _digits(table, results, metric), {}
    for name, (mean, deviation) in _spreads(table, results, metric).items():
        error = "" if deviation is None else f" ±{deviation:.{digits}f}"
        cells[name] = mean, f"{mean:.{digits}f}{error}"
    return cells


def _spreads(
    table: PaperTable, results: Sequence[Result], metric: str
) -> dict[str, tuple[float, float | None]]:
    found = {
        row.name: spread([each for each in results if each.row == row.name], metric)
        for row in table.rows
    }
    return {name: each for name, each in found.items() if each is not None}


def _digits(table: PaperTable, results: Sequence[Result], metric: str) -> int:
    return decimals(mean for mean, _ in _spreads(table, results, metric).values())


def _paper_cells(table: PaperTable, metric: str) -> _Cells:
    printed = {row.name: row.paper.get(metric) for row in table.rows}
    known = {name: value for name, value in printed.items() if value is not None}
    # A paper prints 65.0 above 64.8; the number alone has lost the zero.
    digits = max((len(f"{value:g}".partition(".")[2]) for value in known.values()), default=0)
    return {name: (value, f"{value:.{digits}f}") for name, value in known.items()}


def _bold_best(cells: _Cells, up: bool) -> dict[str, str]:
    values = [value for value, _ in cells.values()]
    best = (max if up else min)(values) if len(values) > 1 else None
    return {name: f"**{text}**" if value == best else text for name, (value, text) in cells.items()}


def _interval_text(interval: Interval, digits: int) -> str:
    if interval.between is None:
        return "none"
    low, high = interval.between
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def _numbers_of(results: Sequence[Result], name: str) -> str:
    return " or ".join(f"{number:,}" for number in sorted({each.content[name] for each in results}))
