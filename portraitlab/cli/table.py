"""A paper's table, rendered from its results alone: ours beside the paper's numbers."""

from __future__ import annotations

import argparse

from portraitlab.tables.paper_table import find_table
from portraitlab.tables.paper_view import order_views, paper_view, plain_numbers
from portraitlab.tables.results import read_results
from portraitlab.tables.table import Table

FORMATS = ("md", "csv", "latex", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which table, and how it is written."""
    parser.add_argument("table", help="PAPER/TABLE, as of `portraitlab tables`, or its folder")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="how (default: drawn for a terminal); csv has plain numbers, and no order",
    )
    parser.add_argument(
        "--figures", action="store_true", help="draw its figures and write its README.md anew too"
    )


def run(given: argparse.Namespace) -> None:
    """Print the table. Raises ValueError where there is none of that name."""
    table = find_table(given.table)
    results = read_results(table)
    if given.figures:
        from portraitlab.tables.ending import write_readme

        write_readme(table)
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
