"""Draw all figures of a table from its declaration and results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from portraitlab.support.files import write_bytes
from portraitlab.tables.figures.against_paper import against_paper
from portraitlab.tables.figures.bars import bars
from portraitlab.tables.figures.curves import curves
from portraitlab.tables.figures.over_number import over_number
from portraitlab.tables.figures.sheet import picture_sheet
from portraitlab.tables.figures.style import FORMATS, look, rendered
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result
from portraitlab.tables.shown import read_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TableFigure:
    """A figure: its name, title, caption, and its files' contents by format.

    forms: png, and svg for a plot.
    """

    name: str
    title: str
    caption: str
    forms: Mapping[str, bytes]


_Drawing = Callable[[PaperTable, Sequence[Result]], "Figure | None"]

_DRAWINGS: dict[str, tuple[_Drawing, str, str]] = {
    "bars": (
        bars,
        "The rows",
        "Means over seeds; the lines at their ends are the standard deviation over seeds, and ★ "
        "is the best mean.",
    ),
    "against-paper": (
        against_paper,
        "Ours against the paper's",
        "A point is a row, each side in its own unit, with the standard deviation over our seeds. "
        "τ is 1 where both order the rows alike and −1 where they do so in reverse; in brackets "
        "its 95 % interval.",
    ),
    "over-number": (
        over_number,
        "Over the number",
        "Ours (above) with the 95 % interval of the mean over people and seeds; the "
        "paper's (below) on its own scale. The interval is mostly of who the people are, which is "
        "the same for all: differences, as the table of neighbours has them, are known better.",
    ),
    "curves": (
        curves,
        "Training",
        "Losses, each point the mean of a tenth of the training around it; mean over seeds, and "
        "their range. The whole loss rises where another one joins it.",
    ),
}
_SHEET = "sheet"
_ABOUT_SHEET = (
    "What the rows drew",
    "The same references (where a row takes fewer, the first of them), target and noise down each "
    "column; the first seed.",
)


def figures(table: PaperTable, results: Sequence[Result]) -> list[TableFigure]:
    """Draw the figures that the results allow; the same results give the same bytes."""
    drawn = []
    with look():
        for name, (draw, title, caption) in _DRAWINGS.items():
            figure = draw(table, results)
            if figure is not None:
                figure.suptitle(table.title)
                forms = {form: rendered(figure, form) for form in FORMATS}
                drawn.append(TableFigure(name, title, caption, forms))
    shown = read_pictures(table, results)
    if shown is not None:
        content = BytesIO()
        picture_sheet(shown).save(content, format="PNG", optimize=True)
        drawn.append(TableFigure(_SHEET, *_ABOUT_SHEET, {"png": content.getvalue()}))
    return drawn


def write_figures(folder: Path, drawn: Sequence[TableFigure]) -> None:
    """Write figures into a table's folder, and delete files of figures that are no longer drawn."""
    files = {f"{own.name}.{form}": text for own in drawn for form, text in own.forms.items()}
    for name in (*_DRAWINGS, _SHEET):
        for form in FORMATS:
            if f"{name}.{form}" not in files:
                (folder / "figures" / f"{name}.{form}").unlink(missing_ok=True)
    for name, content in files.items():
        write_bytes(folder / "figures" / name, content)
