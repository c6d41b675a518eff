"""List the papers' tables: finished results, and the time that the rest takes on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.support.table import Table
from portraitlab.tables.outlook import Outlook, outlooks
from portraitlab.tables.paper_table import find_table, known_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder of runs whose times are used."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)"
    )


def run(given: argparse.Namespace) -> None:
    """Print a row for each table."""
    tables = [find_table(name) for name in known_tables()]
    rows = [
        [table.name, table.title.split(": ", 1)[-1], f"{seen.done}/{seen.total}", *_missing(seen)]
        for table, seen in zip(tables, outlooks(tables, given.runs), strict=True)
    ]
    columns = ["table", "of", "results", "trainings left", "scorings left", "time left here"]
    Table(columns, rows, ["python run.py table=NAME runs the missing rows of a table."]).show()


def _missing(seen: Outlook) -> list[str]:
    if seen.done == seen.total:
        return ["", "", ""]
    return [str(seen.trainings), str(seen.scorings), _time(seen)]


def _time(seen: Outlook) -> str:
    if seen.seconds is None:
        return "unknown: nothing was timed"
    of = "" if seen.timed == "here" or not seen.seconds else f" as on {seen.timed}"
    return _duration(seen.seconds) + of


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
