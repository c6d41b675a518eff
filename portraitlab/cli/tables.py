"""Every table of a paper that is known: what is done, and how long the rest will take here."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.tables.outlook import Outlook, outlook
from portraitlab.tables.paper_table import find_table, known_tables
from portraitlab.tables.table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the runs lie whose times are known."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")


def run(given: argparse.Namespace) -> None:
    """Print a row for each table."""
    rows = []
    for name in known_tables():
        table = find_table(name)
        seen = outlook(table, given.runs)
        title = table.title.split(": ", 1)[-1]
        rows.append([name, title, f"{seen.done}/{seen.total}", *_missing(seen)])
    columns = ["table", "of", "results", "trainings left", "scorings left", "time left here"]
    Table(columns, rows, ["python run.py table=NAME runs what is left of one."]).show()


def _missing(seen: Outlook) -> list[str]:
    if seen.done == seen.total:
        return ["", "", ""]
    time = "not known: no run was timed here" if seen.seconds is None else _duration(seen.seconds)
    return [str(seen.trainings), str(seen.scorings), time]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
