"""Metrics over a number that rows differ in, such as how many references, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portraitlab.tables.comparison import row_interval
from portraitlab.tables.figures.style import COLOURS, better, metric_name, panels
from portraitlab.tables.paper_table import PaperRow, PaperTable
from portraitlab.tables.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _PAPER = COLOURS[0], COLOURS[1]


def over_number(table: PaperTable, results: Sequence[Result]) -> Figure | None:
    """None where rows are no numbers, or fewer than two have results."""
    if not all(row.name.isdigit() for row in table.rows) or len({r.row for r in results}) < 2:
        return None
    figure, axes = panels(len(table.columns), 3.9)
    for axis, (metric, up) in zip(axes, table.columns.items(), strict=True):
        _panel(axis, table.rows, results, metric)
        axis.set_title(f"{metric_name(metric)}, {better(up)}")
        axis.set_xlabel(table.heading)
        axis.set_xticks([int(row.name) for row in table.rows])
    return figure


def _panel(axis: Axes, rows: Sequence[PaperRow], results: Sequence[Result], metric: str) -> None:
    names = [row.name for row in rows]
    ours = {n: row_interval([each for each in results if each.row == n], metric) for n in names}
    known = {int(name): each for name, each in ours.items() if each is not None}
    numbers, values = list(known), [each.value for each in known.values()]
    axis.plot(numbers, values, color=_OURS, marker="o")
    spans = {number: each.between for number, each in known.items() if each.between is not None}
    lows, highs = [low for low, _ in spans.values()], [high for _, high in spans.values()]
    axis.fill_between(list(spans), lows, highs, color=_OURS, alpha=0.18, linewidth=0)
    axis.set_ylabel("here, with its 95 % interval", color=_OURS)
    axis.tick_params(axis="y", colors=_OURS)
    printed = [row for row in rows if metric in row.paper]
    if printed:
        beside = axis.twinx()
        figures = [row.paper[metric] for row in printed]
        beside.plot([int(row.name) for row in printed], figures, "s--", color=_PAPER)
        beside.set_ylabel("in the paper", color=_PAPER)
        beside.tick_params(axis="y", colors=_PAPER)
        # The two scales have nothing in common, so neither has lines across the other.
        beside.grid(visible=False)
        beside.spines["right"].set_visible(True)
