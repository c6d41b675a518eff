"""The look of all figures, and how one becomes a file: the same bytes from the same results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe and Ito, who chose them so that colour-blind people tell them apart; their black and
# yellow are left out, which vanish on a dark and on a light ground.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")
QUIET = "#57606a"
"""Of what is said beside the figures; 6:1 on white."""

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
    # Names in an SVG are of a hash, which would otherwise be of the process.
    "svg.hashsalt": "portraitlab",
}


@contextmanager
def look() -> Iterator[None]:
    """Figures that are made and written inside of it look alike, whatever matplotlibrc says."""
    from matplotlib import style

    with style.context(["default", _LOOK]):
        yield


def panels(count: int, height: float, share_names: bool = False) -> tuple[Figure, list[Axes]]:
    """An empty figure of panels, three at most beside one another; height: of one, in inches.

    share_names: whether the panels of a line have the same names on their vertical axes, which
    are then written once.
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
    """An empty figure of panels side by side, each above a lower one that has the same numbers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.5, 4.6 * count), 5.6), layout="constrained")
    above, below = figure.subplots(2, count, squeeze=False, sharex="col", height_ratios=(3, 2))
    return figure, list(zip(above, below, strict=True))


def legend_below(
    figure: Figure, axes: Sequence[Axes], names: Sequence[str], title: str | None = None
) -> None:
    """One legend of all panels, in the order of the names; what no panel has is left out."""
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
    """A figure as png or svg; without a date and the program's version, which are no results."""
    content = BytesIO()
    figure.savefig(content, format=form, metadata={"Date" if form == "svg" else "Software": None})
    return content.getvalue()


def better(up: bool) -> str:
    """Which way is better, in words."""
    return "higher is better" if up else "lower is better"


def place_in(values: tuple[str, ...], number: int) -> str:
    """One of a few looks, which come again when they are used up."""
    return values[number % len(values)]
