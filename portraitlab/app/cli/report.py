"""Write a self-contained HTML page of a sweep, a run or a table: results, charts, pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.support.files import write_text
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.report.page import page, table_page
from portraitlab.tables.report.rows import read_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder and the output."""
    parser.add_argument(
        "path", type=Path, help="folder of a sweep (runs/sweeps/...), of one run, or of a table"
    )
    parser.add_argument(
        "--output", type=Path, help="output file (default: report.html in the folder)"
    )


def run(given: argparse.Namespace) -> None:
    """Write the page and print its path.

    Raises ValueError where the folder is none of them, or the page cannot be written.
    """
    text = _page(given.path)
    output = given.path / "report.html" if given.output is None else given.output
    try:
        write_text(output, text)
    except OSError as error:
        raise ValueError(
            f"{output} cannot be written ({error.strerror}); give another place as --output FILE"
        ) from error
    print(f"report: {output}")


def _page(path: Path) -> str:
    """Write the page of a table, or of a sweep or run; a paper table's sweep begins with it."""
    table = PaperTable.read(path) if (path / "table.yaml").is_file() else None
    if table is not None and not (path / "sweep.json").is_file():
        return table_page(table)
    return page(read_report(path), table)
