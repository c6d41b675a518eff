"""One self-contained HTML page of a sweep: results, charts, pictures, differences, failures."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.report.page import page
from portraitlab.report.rows import read_report
from portraitlab.runs.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder that is reported on, and where the page goes."""
    parser.add_argument("path", type=Path, help="folder of a sweep (runs/sweeps/...) or of one run")
    parser.add_argument(
        "--output", type=Path, help="file of the page (default: report.html in the folder)"
    )


def run(given: argparse.Namespace) -> None:
    """Write the page and print where it lies.

    Raises ValueError where the folder holds no sweep or run, or the page cannot be written.
    """
    text = page(read_report(given.path))
    output = given.path / "report.html" if given.output is None else given.output
    try:
        write_text(output, text)
    except OSError as error:
        raise ValueError(
            f"{output} cannot be written ({error.strerror}); give another place as --output FILE"
        ) from error
    print(f"report: {output}")
