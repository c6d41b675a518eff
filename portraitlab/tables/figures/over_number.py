"""Plot metrics over a number that the rows differ in, such as the number of references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portraitlab.tables.comparison import row_interval
from portraitlab.tables.figures.style import COLOURS, better, pairs_of_panels
from portraitlab.tables.paper_table import PaperRow, PaperTable
from portraitlab.tables.results import Result
from portraitlab.tables.writing import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _PAPER = COLOURS[0], COLOURS[1]


def over_number(table: PaperTable, results: Sequence[Result]) -> Figure | None:
    """Draw our figures above the paper's, each on its own scale.

    None where the rows' names are not numbers, or fewer than two rows have results.
    """
    if not all(row.name.isdigit() for row in table.rows) or len({r.row for r in results}) < 2:
        return None
    figure, pairs = pairs_of_panels(len(table.columns))
    for (above, below), (metric, up) in zip(pairs, table.columns.items(), strict=True):
        _draw_ours(above, table.rows, results, metric)
        _draw_printed(below, table.rows, metric)
        above.set_title(f"{metric_name(metric)}, {better(up)}")
        below.set_xlabel(table.heading)
        below.set_xticks([int(row.name) for row in table.rows])
    above, below = pairs[0]
    above.set_ylabel("here")
    below.set_ylabel("in the paper")
    return figure


def _draw_ours(
    axis: Axes, rows: Sequence[PaperRow], results: Sequence[Result], metric: str
) -> None:
    names = [row.name for row in rows]
    ours = {n: row_interval([each for each in results if each.row == n], metric) for n in names}
    known = {int(name): each for name, each in ours.items() if each is not None}
    axis.plot(list(known), [each.value for each in known.values()], color=_OURS, marker="o")
    spans = {number: each.between for number, each in known.items() if each.between is not None}
    lows, highs = [low for low, _ in spans.values()], [high for _, high in spans.values()]
    axis.fill_between(list(spans), lows, highs, color=_OURS, alpha=0.18, linewidth=0)


def _draw_printed(axis: Axes, rows: Sequence[PaperRow], metric: str) -> None:
    printed = {int(row.name): row.paper[metric] for row in rows if metric in row.paper}
    axis.plot(list(printed), list(printed.values()), "s--", color=_PAPER)
