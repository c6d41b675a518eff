"""A paper's table, rendered from its results alone: ours beside the paper's numbers."""

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
    """Which table, and how it is written."""
    parser.add_argument("table", help="PAPER/TABLE, as of `portraitlab tables`, or its folder")
    written = parser.add_mutually_exclusive_group()
    written.add_argument(
        "--format",
        choices=FORMATS,
        help="how (default: drawn for a terminal); csv has plain numbers, and no order",
    )
    parser.add_argument(
        "--figures", action="store_true", help="draw its figures and write its README.md anew too"
    )
    written.add_argument(
        "--document",
        type=Path,
        help="instead of printing, write ours beside the paper's into this file, between its lines "
        "`<!-- PAPER/TABLE -->` and `<!-- end of PAPER/TABLE -->`",
    )


def run(given: argparse.Namespace) -> None:
    """Print the table, or write it into a document.

    Raises ValueError where there is none of that name, and where the document has no place for it.
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
