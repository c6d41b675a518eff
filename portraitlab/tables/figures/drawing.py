"""All figures of a table, drawn from its declaration and its results into its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from portraitlab.runs.files import write_bytes
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
    """A figure that was drawn: its picture, below the table's folder, and what it shows."""

    path: Path
    title: str
    caption: str


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
        "τ is 1 where both order the rows alike and -1 where they do so in reverse; in brackets "
        "its 95 % interval.",
    ),
    "over-number": (
        over_number,
        "Over the number",
        "Ours (left) with the 95 % bootstrap interval of the mean over people and seeds; the "
        "paper's (right) on its own scale.",
    ),
    "curves": (
        curves,
        "Training",
        "Losses of neighbouring steps, averaged: mean over seeds, and their range.",
    ),
}
_SHEET = (
    "What the rows drew",
    "The same references, target and noise down each column; the first seed.",
)


def draw_figures(table: PaperTable, results: Sequence[Result]) -> list[TableFigure]:
    """Write the figures that the results allow as PNG and SVG; what they no longer allow goes.

    The picture sheet is a PNG alone.
    """
    folder, drawn = table.folder / "figures", []
    with look():
        for name, (draw, title, caption) in _DRAWINGS.items():
            figure = draw(table, results)
            for form in FORMATS:
                path = folder / f"{name}.{form}"
                if figure is None:
                    path.unlink(missing_ok=True)
                else:
                    write_bytes(path, rendered(figure, form))
            if figure is not None:
                drawn.append(TableFigure(folder / f"{name}.png", title, caption))
    sheet, shown = folder / "sheet.png", read_pictures(table, results)
    if shown is None:
        sheet.unlink(missing_ok=True)
    else:
        content = BytesIO()
        picture_sheet(shown).save(content, format="PNG", optimize=True)
        write_bytes(sheet, content.getvalue())
        drawn.append(TableFigure(sheet, *_SHEET))
    return drawn
