"""Tables of text, printed or formatted as Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from portraitlab.support.printing import printable

_SIGNED = re.compile(r"[-+][-+\d.,e\s±()\[\]%−]*")
"""Figures, with their errors and intervals."""


@dataclass(frozen=True)
class Table:
    """Columns, rows with as many cells, and `notes`, which are lines below.

    A cell between two `**` is bold, as in Markdown; other markup, formulas of spreadsheets and
    control characters are text in every format.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "a row of another length"

    def markdown(self) -> str:
        """Format as Markdown with escaped pipes; notes follow as paragraphs."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        text = "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)
        return "\n\n".join([text, *self.notes]) + "\n"

    def csv(self) -> str:
        """Format as CSV with a header, without notes and bold."""
        text = io.StringIO()
        rows = [[_no_formula(_plain(cell)) for cell in row] for row in self.rows]
        columns = [_no_formula(column) for column in self.columns]
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        return text.getvalue()

    def latex(self) -> str:
        """Format as a tabular with booktabs' rules; notes follow as paragraphs.

        A comment names the package.
        """
        lines = [
            r"% needs \usepackage{booktabs}",
            f"\\begin{{tabular}}{{{'l' + 'c' * (len(self.columns) - 1)}}}",
            "\\toprule",
            _latex_line(self.columns),
            "\\midrule",
            *map(_latex_line, self.rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
        return "\n\n".join(["\n".join(lines), *map(_latex, self.notes)]) + "\n"

    def html(self) -> str:
        """Format as a table element; notes follow as paragraphs."""
        head = "".join(f"<th>{_html(cell)}</th>" for cell in self.columns)
        body = [
            "<tr>" + "".join(f"<td>{_html(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        ]
        notes = [f"<p>{_html(note)}</p>" for note in self.notes]
        lines = ["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>", *body, "</tbody>"]
        return "\n".join([*lines, "</table>", *notes, ""])

    def show(self) -> None:
        """Print the table."""
        from rich.console import Console
        from rich.table import Table as Drawn
        from rich.text import Text

        def cell(content: str) -> Text:
            return Text(printable(_plain(content)), style="bold" if _is_bold(content) else "")

        drawn = Drawn()
        for column in self.columns:
            drawn.add_column(Text(printable(column)), no_wrap=True)
        for row in self.rows:
            drawn.add_row(*map(cell, row))
        # A table wider than the screen is not wrapped, so that no number is split.
        needed = Console(width=1000).measure(drawn).maximum
        console = Console(width=max(Console().width, needed))
        console.print(drawn)
        for note in self.notes:
            console.print(Text(printable(note)))


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "−": "$-$"},
}


def _latex_line(cells: Sequence[str]) -> str:
    line = " & ".join(map(_latex, cells)) + r" \\"
    # The \\ of the line above would take these as its argument.
    return "{}" + line if line.startswith(("[", "*")) else line


def _latex(cell: str) -> str:
    text = "".join(_LATEX.get(character, character) for character in printable(_plain(cell)))
    return rf"\textbf{{{text}}}" if _is_bold(cell) else text


def _html(cell: str) -> str:
    text = escape(printable(_plain(cell)))
    return f"<b>{text}</b>" if _is_bold(cell) else text


def _is_bold(cell: str) -> bool:
    return len(cell) > 4 and cell.startswith("**") and cell.endswith("**")


def _plain(cell: str) -> str:
    return cell[2:-2] if _is_bold(cell) else cell


def _no_formula(cell: str) -> str:
    """Mark text as text where a spreadsheet would compute it: what begins with = + - or @."""
    cell = printable(cell)
    if cell.lstrip().startswith(("=", "+", "-", "@")) and not _SIGNED.fullmatch(cell):
        return f"'{cell}"
    return cell


def _escaped(cell: str) -> str:
    """Write a cell as text: without columns, links and HTML of its own."""
    cell = re.sub(r"[|\\]|\](?=[(\[])", r"\\\g<0>", printable(cell))
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", cell).replace("\n", " ")
