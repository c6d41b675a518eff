"""Plot our figures against the paper's: a panel a metric, a point a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portraitlab.tables.comparison import Comparison, compare, spread
from portraitlab.tables.figures.style import COLOURS, MARKERS, legend_below, panels, place_in
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result
from portraitlab.tables.writing import metric_name, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def against_paper(table: PaperTable, results: Sequence[Result]) -> Figure | None:
    """Draw the panels, each side in its own unit; None where no metric has two rows to compare."""
    compared = [compare(table, results, metric) for metric in table.columns]
    known = [each for each in compared if each is not None]
    if not known:
        return None
    figure, axes = panels(len(known), 3.9)
    for axis, each in zip(axes, known, strict=True):
        _panel(axis, table, results, each)
    legend_below(figure, axes, [row.name for row in table.rows], table.heading)
    return figure


def _panel(axis: Axes, table: PaperTable, results: Sequence[Result], compared: Comparison) -> None:
    metric = compared.metric
    for number, row in enumerate(table.rows):
        found = spread([each for each in results if each.row == row.name], metric)
        if found is None or metric not in row.paper:
            continue
        mean, deviation = found
        axis.errorbar(
            row.paper[metric],
            mean,
            yerr=deviation,
            # After six rows colours repeat, with other markers.
            fmt=place_in(MARKERS, number + number // len(COLOURS)),
            color=place_in(COLOURS, number),
            markersize=8,
            capsize=3,
            label=row.name,
        )
    tau = compared.tau
    text = f"Kendall's τ {signed(tau.value, 2)}"
    if tau.between is not None:
        text += " [{}, {}]".format(*(signed(end, 2) for end in tau.between))
    up = table.columns[metric]
    axis.set_title(f"{metric_name(metric)} {'↑' if up else '↓'}\n{text}", size=10.5)
    axis.set_xlabel(f"{metric_name(metric)} in the paper")
    axis.set_ylabel(f"{metric_name(metric)} here")
    axis.margins(0.12)
