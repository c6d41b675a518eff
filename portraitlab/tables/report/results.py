"""The table of results: one row a job, sortable columns, and the bounds in its footer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portraitlab.tables.report.bounds import bounds
from portraitlab.tables.report.layout import swatch
from portraitlab.tables.report.markup import Html, element, joined
from portraitlab.tables.report.rows import Report, Row
from portraitlab.tables.report.seeds import SeedGroup
from portraitlab.tables.report.standing import best, figure_of, level_with


@dataclass(frozen=True)
class ResultColumn:
    """A column of the table: its heading and the values that it sorts by.

    values: one for each of the report's rows in their order; None sorts last. descends: True if the
    first click sorts in descending order. about: its tooltip.
    """

    heading: str
    values: Sequence[str | float | None]
    descends: bool = False
    about: str | None = None


def columns(report: Report) -> list[ResultColumn]:
    """List the columns: number, swept settings, metrics, pictures without a face, state."""
    rows = report.rows
    records = [row.record for row in rows]
    return [
        ResultColumn("row", [row.number for row in rows]),
        *(ResultColumn(name, [row.settings.get(name) for row in rows]) for name in report.swept),
        *(
            ResultColumn(
                f"{name} {'↑' if metric['higher_is_better'] else '↓'}",
                [figure_of(row, name) for row in rows],
                metric["higher_is_better"],
                metric.get("method"),
            )
            for name, metric in report.metrics.items()
        ),
        ResultColumn(
            "no face",
            [None if record is None else record["faceless"] for record in records],
            about="generated pictures in which no face is found",
        ),
        ResultColumn("state", [row.state for row in rows]),
    ]


def results(report: Report) -> Html:
    """Make the table's markup."""
    head = element("tr", *(_heading(place, each) for place, each in enumerate(columns(report))))
    rows = [_row(report, row) for row in report.rows]
    blank = len(report.swept)
    apart = [
        element(
            "tr",
            element("th", bound.label(report), scope="row", colspan=1 + blank),
            *(_figure(bound.metrics.get(name)) for name in report.metrics),
            element("td"),
            element("td", "bound"),
        )
        for bound in bounds(report)
    ]
    return element(
        "table",
        element("thead", head),
        element("tbody", *rows, id="rows"),
        element("tbody", *apart, class_="bounds"),
        id="results-table",
    )


def over_seeds(report: Report, groups: Sequence[SeedGroup]) -> Html:
    """Make a table of means over seeds ± their standard deviation."""
    names = list(groups[0].settings)
    metrics = {name: metric["higher_is_better"] for name, metric in report.metrics.items()}
    head = [*names, "rows", *(f"{name} {'↑' if up else '↓'}" for name, up in metrics.items())]
    lines = []
    for group in groups:
        texts = [*group.settings.values(), ", ".join(str(row.number) for row in group.rows)]
        spreads = [group.spread(name) for name in metrics]
        figures = [
            {"value": None, "error": None}
            if spread is None
            else {"value": spread[0], "error": spread[1]}
            for spread in spreads
        ]
        cells = [element("td", text) for text in texts]
        lines.append(element("tr", *cells, *(_figure(figure) for figure in figures)))
    return element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in head))),
        element("tbody", *lines),
        id="seeds-table",
    )


def _heading(place: int, column: ResultColumn) -> Html:
    button = element(
        "button",
        column.heading,
        element("span", class_="direction", aria_hidden="true"),
        type="button",
        data_column=place,
        title=column.about,
    )
    return element("th", button, scope="col", aria_sort="ascending" if place == 0 else "none")


def _row(report: Report, row: Row) -> Html:
    number = element("th", swatch(row), str(row.number), scope="row")
    settings = [element("td", row.settings.get(name, "–")) for name in report.swept]
    state = element("td", element("span", row.state, class_=f"state {row.state.split()[0]}"))
    if row.record is None:
        message = element("td", row.message, class_="message", colspan=len(report.metrics) + 1)
        return element("tr", number, *settings, message, state, data_row=row.number)
    figures = [_standing(report, row, name) for name in report.metrics]
    faceless = element("td", f"{row.record['faceless']} of {row.record['images']}", class_="figure")
    return element("tr", number, *settings, *figures, faceless, state, data_row=row.number)


def _standing(report: Report, row: Row, metric: str) -> Html:
    first = best(report.rows, metric)
    if sum(metric in each.metrics for each in report.rows) < 2 or not first:
        return _figure(row.metrics.get(metric))
    if row in first:
        return _figure(row.metrics[metric], "★", "the best of all rows")
    level = level_with(row, first[0], metric)
    return _figure(row.metrics.get(metric), "" if level is None else "≈", level)


def _figure(metric: Mapping[str, Any] | None, mark: str = "", about: str | None = None) -> Html:
    if metric is None or metric["value"] is None:
        return element("td", "–" if metric is None else "not measured", class_="figure missing")
    error = "" if metric["error"] is None else f" ±{metric['error']:.3f}"
    return element(
        "td",
        element("span", f"{metric['value']:.3f}", class_="best" if mark == "★" else None),
        element("span", error, class_="error"),
        joined(" ", element("span", mark, class_="mark")) if mark else "",
        class_="figure",
        title=about,
    )
