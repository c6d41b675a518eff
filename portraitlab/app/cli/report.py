"""One self-contained HTML page of a sweep, a run or a table: results, charts and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.support.files import write_text
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.report.page import page, table_page
from portraitlab.tables.report.rows import read_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder that is reported on, and where the page goes."""
    parser.add_argument(
        "path", type=Path, help="folder of a sweep (runs/sweeps/...), of one run, or of a table"
    )
    parser.add_argument(
        "--output", type=Path, help="file of the page (default: report.html in the folder)"
    )


def run(given: argparse.Namespace) -> None:
    """Write the page and print where it lies.

    Raises ValueError where the folder holds none of them, or the page cannot be written.
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
    """Of a table alone, or of a sweep or run; a sweep with a table of its own begins with it."""
    table = PaperTable.read(path) if (path / "table.yaml").is_file() else None
    if table is not None and not (path / "sweep.json").is_file():
        return table_page(table)
    return page(read_report(path), table)
