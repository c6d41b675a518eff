"""The sections of a paper's table: ours beside the paper's, and its figures."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

from portraitlab.support.table import Table
from portraitlab.tables.figures.drawing import TableFigure, figures
from portraitlab.tables.paper_readme import runs_table
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.paper_view import order_views, paper_view
from portraitlab.tables.report.layout import box, note, section
from portraitlab.tables.report.markup import Html, element
from portraitlab.tables.results import read_results

PAPER_PARTS = {
    "paper": "Ours and the paper's",
    "order": "Is it the paper's order?",
    "figures": "Figures",
    "made": "Runs of the table",
}
"""Ids of the sections, and their titles."""


def paper_sections(table: PaperTable) -> list[Html]:
    """Make the sections of the table, its order beside the paper's, its figures and its runs.

    Raises DamagedFile (a ValueError) if a result is damaged.
    """
    results = read_results(table)
    orders = [part for view in order_views(table, results) for part in _shown("order", view)]
    drawn = [_figure(each) for each in figures(table, results)]
    content = {
        "paper": _shown("paper", paper_view(table, results)),
        "order": orders or [note("No two rows have results yet.")],
        "figures": drawn or [note("There are no results yet.")],
        "made": _shown("made", runs_table(table, results)),
    }
    titles = {**PAPER_PARTS, "order": table.question}
    return [section(name, title, *content[name]) for name, title in titles.items()]


def _shown(part: str, table: Table) -> list[Html]:
    """Put a table, whose text Table has escaped, in a box named by the part, with its notes."""
    return [box(PAPER_PARTS[part], Html(replace(table, notes=()).html())), *map(note, table.notes)]


def _figure(figure: TableFigure) -> Html:
    form = "svg+xml" if "svg" in figure.forms else "png"
    content = b64encode(figure.forms[form[:3]]).decode()
    return element(
        "article",
        element("h3", figure.title),
        note(figure.caption),
        element(
            "img",
            src=f"data:image/{form};base64,{content}",
            alt=f"{figure.title}. {figure.caption}",
            class_="drawing",
        ),
    )
