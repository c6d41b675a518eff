"""Render a paper's table from its stored results: our numbers beside the paper's."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.support.table import Table
from portraitlab.tables.document import write_part
from portraitlab.tables.paper_table import find_table
from portraitlab.tables.paper_view import order_views, paper_view, plain_numbers
from portraitlab.tables.results import read_results

FORMATS = ("md", "csv", "latex", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the table, its format and its outputs."""
    parser.add_argument("table", help="PAPER/TABLE (see `portraitlab tables`), or its folder")
    written = parser.add_mutually_exclusive_group()
    written.add_argument(
        "--format",
        choices=FORMATS,
        help="output format (default: for a terminal); csv has plain numbers and no statement of "
        "order",
    )
    parser.add_argument(
        "--figures", action="store_true", help="also redraw its figures and rewrite its README.md"
    )
    written.add_argument(
        "--document",
        type=Path,
        help="write the table into this file instead of printing it, between its lines "
        "`<!-- PAPER/TABLE -->` and `<!-- end of PAPER/TABLE -->`",
    )


def run(given: argparse.Namespace) -> None:
    """Print the table, or write it into a document.

    Raises ValueError where there is no such table, or the document does not have its two marks.
    """
    table = find_table(given.table)
    results = read_results(table)
    if given.figures:
        from portraitlab.tables.ending import write_readme

        write_readme(table)
    if given.document is not None:
        write_part(given.document, table.name, paper_view(table, results).markdown())
        return
    if given.format == "csv":
        print(plain_numbers(table, results).csv(), end="")
        return
    views = [paper_view(table, results), *order_views(table, results)]
    if given.format is None:
        print(table.title)
        for view in views:
            view.show()
        if given.figures:
            print(f"table: {table.folder / 'README.md'}")
        return
    written = {"md": Table.markdown, "latex": Table.latex, "html": Table.html}[given.format]
    print("\n".join(map(written, views)), end="")
