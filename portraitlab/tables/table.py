"""A table of text, on the screen, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Columns, then rows of as many cells; `notes` are lines below it.

    A cell between two `**` is bold, as in Markdown.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "a row of another length"

    def markdown(self) -> str:
        """Pipes in cells are escaped; notes follow as paragraphs."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        text = "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)
        return "\n\n".join([text, *self.notes]) + "\n"

    def csv(self) -> str:
        """Comma-separated, with a header and without the notes."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def show(self) -> None:
        """Print it."""
        from rich.console import Console
        from rich.table import Table as Drawn
        from rich.text import Text

        def cell(content: str) -> Text:
            if content.startswith("**") and content.endswith("**"):
                return Text(content.strip("*"), style="bold")
            return Text(content)

        drawn = Drawn()
        for column in self.columns:
            drawn.add_column(Text(column), no_wrap=True)
        for row in self.rows:
            drawn.add_row(*map(cell, row))
        # A table wider than the screen is printed whole: figures cut in two are no figures.
        needed = Console(width=1000).measure(drawn).maximum
        console = Console(width=max(Console().width, needed))
        console.print(drawn)
        for note in self.notes:
            console.print(Text(note))


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
