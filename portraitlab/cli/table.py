"""A paper's table, rendered from its results alone: ours beside the paper's numbers."""

from __future__ import annotations

import argparse

from portraitlab.tables.paper_table import find_table
from portraitlab.tables.paper_view import paper_view
from portraitlab.tables.results import read_results

FORMATS = ("md", "csv", "latex", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which table, and how it is written."""
    parser.add_argument("table", help="PAPER/TABLE, as of `portraitlab tables`, or its folder")
    parser.add_argument("--format", choices=FORMATS, help="how (default: drawn for a terminal)")
    parser.add_argument(
        "--figures", action="store_true", help="draw its figures and write its README.md anew too"
    )


def run(given: argparse.Namespace) -> None:
    """Print the table. Raises ValueError where there is none of that name."""
    table = find_table(given.table)
    view = paper_view(table, read_results(table))
    if given.figures:
        from portraitlab.tables.ending import write_readme

        write_readme(table)
    if given.format is None:
        print(table.title)
        view.show()
        if given.figures:
            print(f"table: {table.folder / 'README.md'}")
        return
    written = {"md": view.markdown, "csv": view.csv, "latex": view.latex, "html": view.html}
    print(written[given.format](), end="")
