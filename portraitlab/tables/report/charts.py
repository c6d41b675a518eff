"""Collect the charts' data as plain JSON content for the page's script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portraitlab.tables.figures.style import COLOURS
from portraitlab.tables.report.bounds import bounds
from portraitlab.tables.report.rows import Report, Row, finite

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "triangle-up", "star", "cross")


def colour(row: Row) -> str:
    """Return a row's colour in all charts; after six rows colours repeat with another dash."""
    return COLOURS[(row.number - 1) % len(COLOURS)]


def chart_content(report: Report) -> dict[str, Any]:
    """Collect rows with figures, losses and styles; bounds; names of metrics, settings, losses."""
    losses = dict.fromkeys(name for row in report.rows for line in row.losses for name in line)
    return {
        "settings": report.swept,
        "metrics": [
            {"name": name, "up": metric["higher_is_better"], "method": metric.get("method", "")}
            for name, metric in report.metrics.items()
        ],
        "losses": [name for name in losses if name != "step"],
        "rows": [_row(report, row) for row in report.rows],
        "bounds": [
            {"label": bound.label(report), "values": _values(bound.metrics)}
            for bound in bounds(report)
        ],
    }


def _row(report: Report, row: Row) -> dict[str, Any]:
    turn = (row.number - 1) // len(COLOURS)
    names = dict.fromkeys(name for line in row.losses for name in line)
    return {
        "number": row.number,
        "label": report.label(row),
        "colour": colour(row),
        "dash": _DASHES[turn % len(_DASHES)],
        "symbol": _SYMBOLS[turn % len(_SYMBOLS)],
        "settings": [row.settings.get(name) for name in report.swept],
        "values": _values(row.metrics),
        "people": {
            name: {person: finite(value) for person, value in metric["by_identity"].items()}
            for name, metric in row.metrics.items()
            if "by_identity" in metric
        },
        "losses": {name: [finite(line.get(name)) for line in row.losses] for name in names},
    }


def _values(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float | None]]:
    return {
        name: [finite(metric["value"]), finite(metric["error"])] for name, metric in metrics.items()
    }
