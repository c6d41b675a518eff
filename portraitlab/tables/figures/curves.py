"""Plot training curves: a panel a loss, a line a row, the mean over seeds within their range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from portraitlab.tables.curve import Curve
from portraitlab.tables.figures.style import COLOURS, DASHES, legend_below, panels, place_in
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(table: PaperTable, results: Sequence[Result]) -> Figure | None:
    """Draw the panels; None without any curve. Rows that score the same trainings share a line."""
    lines = _lines(table, results)
    losses = list(dict.fromkeys(n for own in lines.values() for c in own for n in c if n != "step"))
    if not losses:
        return None
    figure, axes = panels(len(losses), 3.6)
    for axis, loss in zip(axes, losses, strict=True):
        for number, (label, own) in enumerate(lines.items()):
            _line(axis, label, number, own, loss)
        axis.set_title("whole loss" if loss == "train/loss" else f"{loss[len('train/') :]} loss")
        axis.set_xlabel("training step")
        axis.locator_params(axis="x", integer=True, nbins=6)
    legend_below(figure, axes, list(lines))
    return figure


def _lines(table: PaperTable, results: Sequence[Result]) -> dict[str, list[Curve]]:
    """Collect the curves of each training's seeds, by the rows that score it."""
    by_row: dict[str, list[Mapping[str, Any]]] = {row.name: [] for row in table.rows}
    for each in results:
        if each.content.get("curve"):
            by_row[each.row].append(each.content)
    trained: dict[tuple[str, ...], list[str]] = {}
    for name, contents in by_row.items():
        if contents:
            trained.setdefault(tuple(content["key"] for content in contents), []).append(name)
    alone = len(trained) == 1 and len(table.rows) > 1
    return {
        "all rows, which share their trainings" if alone else ", ".join(names): [
            content["curve"] for content in by_row[names[0]]
        ]
        for names in trained.values()
    }


def _line(axis: Axes, label: str, number: int, own: Sequence[Curve], loss: str) -> None:
    # Seeds of a row are logged at the same steps; the curve of an interrupted run is shorter.
    points = min(len(curve["step"]) for curve in own)
    steps = np.array(own[0]["step"][:points], dtype=float)
    values = np.array([curve[loss][:points] for curve in own if loss in curve], dtype=float)
    if not values.size:
        return
    known = ~np.isnan(values).all(axis=0)
    steps, values = steps[known], _smooth(values, _joins(own[0]))[:, known]
    colour = place_in(COLOURS, number)
    dash = place_in(DASHES, number // len(COLOURS))
    axis.plot(steps, np.nanmean(values, axis=0), dash, color=colour, linewidth=1.6, label=label)
    if len(values) > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def _joins(curve: Curve) -> list[int]:
    """Find the points at which further losses begin after the start."""
    losses = [values for name, values in curve.items() if name != "step"]
    first = [next((at for at, value in enumerate(own) if value is not None), 0) for own in losses]
    return sorted({at for at in first if at})


def _smooth(values: NDArray[np.float64], joins: Sequence[int]) -> NDArray[np.float64]:
    """Average each point [seeds, points] over the tenth around it, without NaN.

    Rows are trained on the same noise, so that their losses rise and fall together and hide one
    another. joins: points that no mean reaches across, since the whole loss changes there.
    """
    reach = values.shape[1] // 20
    tenth = np.ones(2 * reach + 1)
    means = []
    for part in np.split(values, [at for at in joins if at < values.shape[1]], axis=1):
        there = ~np.isnan(part)
        # Cut the full convolution to the length of the part, however short that is.
        within = slice(reach, reach + part.shape[1])
        sums = np.array([np.convolve(line, tenth)[within] for line in np.where(there, part, 0)])
        counts = np.array([np.convolve(line, tenth)[within] for line in there])
        means.append(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
    return np.concatenate(means, axis=1)
