"""Plot a table as bars: a panel a metric, a bar a row, error bars over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from portraitlab.tables.comparison import spread
from portraitlab.tables.figures.style import COLOURS, QUIET, better, panels
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result
from portraitlab.tables.writing import decimals, metric_name, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def bars(table: PaperTable, results: Sequence[Result]) -> Figure | None:
    """Draw the rows in the table's order, from the top; None where there are no results."""
    if not results:
        return None
    figure, axes = panels(len(table.columns), 0.9 + 0.42 * len(table.rows), share_names=True)
    for axis, (metric, up) in zip(axes, table.columns.items(), strict=True):
        _panel(axis, table, results, metric, up)
        axis.set_title(f"{metric_name(metric)}, {better(up)}")
        axis.set_xlabel(unit(metric), size=10)
        place = axis.get_subplotspec()
        if place is not None and place.is_first_col():
            axis.set_ylabel(table.heading)
    # Set limits: inverting a shared axis inverts its whole line, and twice undoes it.
    for axis in axes:
        axis.set_ylim(len(table.rows) - 0.5, -0.5)
    return figure


def _panel(axis: Axes, table: PaperTable, results: Sequence[Result], metric: str, up: bool) -> None:
    # Draw a bar for each row, the best one in colour.
    found = [spread([r for r in results if r.row == row.name], metric) for row in table.rows]
    means = [each[0] for each in found if each is not None]
    best = (max if up else min)(means) if len(means) > 1 else None
    digits = decimals(means)
    for place, each in enumerate(found):
        if each is None:
            axis.annotate("missing", (0, place), (4, 0), **_beside, color=QUIET, style="italic")
            continue
        mean, deviation = each
        first = mean == best
        axis.barh(place, mean, 0.68, color=COLOURS[0] if first else "#9fc4dc")
        if deviation is not None:
            axis.errorbar(mean, place, xerr=deviation, color="black", capsize=3, linewidth=1.2)
        error = "" if deviation is None else f" ±{deviation:.{digits}f}"
        text = f"{mean:.{digits}f}{error}"
        end = max(mean + (deviation or 0), 0)
        weight = "bold" if first else "normal"
        label = f"{text} ★" if first else text
        axis.annotate(label, (end, place), (5, 0), **_beside, weight=weight, size=10)
    # Label the rows.
    axis.set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)
    # Leave room for the text behind the bars.
    axis.set_xmargin(0.42)
    if not means or min(means) >= 0:
        axis.set_xlim(left=0)


_beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": "left"}
