"""Style figures and write them to bytes, the same for the same results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, which colour-blind people can tell apart, without its black and
# yellow, which vanish on a dark and on a light ground.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")
QUIET = "#57606a"
"""Colour of secondary text; its contrast on white is 6:1."""

FORMATS = ("png", "svg")
_LOOK = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "legend.frameon": False,
    "savefig.dpi": 150,
    # Names in an SVG are hashed with this salt, by default with one of the process.
    "svg.hashsalt": "portraitlab",
}


@contextmanager
def look() -> Iterator[None]:
    """Style the figures made and written in the context alike, whatever matplotlibrc sets."""
    from matplotlib import style

    with style.context(["default", _LOOK]):
        yield


def panels(count: int, height: float, share_names: bool = False) -> tuple[Figure, list[Axes]]:
    """Make an empty figure of panels, at most three a line.

    height: height of a panel in inches. share_names: True where the panels of a line have the same
    names on their vertical axes, which are then written once.
    """
    from matplotlib.figure import Figure

    wide = min(count, 2 if count == 4 else 3)
    lines = -(-count // wide)
    figure = Figure(figsize=((6.5, 9.2, 10.8)[wide - 1], height * lines), layout="constrained")
    axes = figure.subplots(lines, wide, squeeze=False, sharey="row" if share_names else False)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def pairs_of_panels(count: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Make an empty figure of panels side by side, each above one with the same horizontal axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.5, 4.6 * count), 5.6), layout="constrained")
    above, below = figure.subplots(2, count, squeeze=False, sharex="col", height_ratios=(3, 2))
    return figure, list(zip(above, below, strict=True))


def legend_below(
    figure: Figure, axes: Sequence[Axes], names: Sequence[str], title: str | None = None
) -> None:
    """Add one legend for all panels, in the order of the names; unused names are left out."""
    found = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    shown = [name for name in names if name in found]
    columns = len(shown) if len(shown) < 5 else 3
    handles = [found[name] for name in shown]
    figure.legend(handles, shown, loc="outside lower center", ncols=columns, title=title)


def rendered(figure: Figure, form: str) -> bytes:
    """Write a figure as png or svg, without date and program version, which change the bytes."""
    content = BytesIO()
    figure.savefig(content, format=form, metadata={"Date" if form == "svg" else "Software": None})
    return content.getvalue()


def better(up: bool) -> str:
    """Name the better direction in words."""
    return "higher is better" if up else "lower is better"


def place_in(values: tuple[str, ...], number: int) -> str:
    """Return the value at a number; values repeat after the last one."""
    return values[number % len(values)]
