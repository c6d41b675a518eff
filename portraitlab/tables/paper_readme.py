"""Write the README.md of a paper's table from its declaration and results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portraitlab.runs.origin import place
from portraitlab.support.table import Table
from portraitlab.tables.figures.drawing import TableFigure
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.paper_view import order_views, paper_view
from portraitlab.tables.results import Result
from portraitlab.tables.writing import metric_name


def readme(
    table: PaperTable, results: Sequence[Result], figures: Sequence[TableFigure] = ()
) -> str:
    """Write the README: title, command, figures beside the paper's, plots, and the runs.

    figures: those in the table's folder.
    """
    settings = " ".join(f"{name}={value}" for name, value in table.overrides.items())
    parts = [
        f"# {table.title}",
        f"Written by the command, from `table.yaml` and `results/`. Printed in {table.paper}.",
        f"    {table.command}",
        f"All rows: `{settings}`, seeds {', '.join(map(str, table.seeds))}.",
        paper_view(table, results).markdown().rstrip(),
        *_columns(table, results),
        *_orders(table, results),
        *map(_figure, figures),
        "## Runs",
        runs_table(table, results).markdown().rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def _columns(table: PaperTable, results: Sequence[Result]) -> list[str]:
    """Describe the columns, by the results' own descriptions of their metrics."""
    lines = []
    for metric, up in table.columns.items():
        methods = dict.fromkeys(
            each.metrics[metric]["method"] for each in results if metric in each.metrics
        )
        if methods:
            way = "higher" if up else "lower"
            lines.append(f"- **{metric_name(metric)}**, {way} is better: {'; or '.join(methods)}.")
    return ["\n".join(lines)] if lines else []


def _orders(table: PaperTable, results: Sequence[Result]) -> list[str]:
    views = [view.markdown().rstrip() for view in order_views(table, results)]
    return [f"## {table.question}", *views] if views else []


def _figure(figure: TableFigure) -> str:
    """Write a figure of the folder figures/ under its heading."""
    return f"## {figure.title}\n\n![{figure.title}](figures/{figure.name}.png)\n\n{figure.caption}"


def runs_table(table: PaperTable, results: Sequence[Result]) -> Table:
    """Tabulate the settings, duration, commit and machine of each result."""
    settings = {row.name: " ".join(row.arguments) for row in table.rows}
    rows = [
        [
            each.row,
            str(each.seed),
            settings[each.row],
            each.content["key"],
            _minutes(each.content.get("training_seconds")),
            _made(each.content["trained_by"]),
            _minutes(each.content.get("scoring_seconds")),
            _made(each.content["origin"]),
        ]
        for each in results
    ]
    columns = ["row", "seed", "settings", "key", "training", "trained by", "scoring", "scored by"]
    return Table(columns, rows)


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f} min"


def _made(origin: Mapping[str, Any] | None) -> str:
    """Format commit, with `+changes` for changed files, torch version and machine."""
    if origin is None:
        return "not written down"
    commit, plus, changes = (origin["commit"] or "no commit").partition("+")
    return f"{commit[:9]}{plus}{changes}, torch {origin['versions']['torch']}, {place(origin)}"
