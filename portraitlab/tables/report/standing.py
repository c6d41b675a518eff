"""Find the best row of a metric, and the rows that do not differ clearly from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portraitlab.tables.pairing import paired_difference
from portraitlab.tables.report.rows import Row, finite


def best(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return the rows with the best figure: several if they are equal, none if no row has one."""
    known = [row for row in rows if figure_of(row, metric) is not None]
    if not known:
        return []
    up = known[0].metrics[metric]["higher_is_better"]
    values = [row.metrics[metric]["value"] for row in known]
    top = max(values) if up else min(values)
    return [row for row, value in zip(known, values, strict=True) if value == top]


def level_with(row: Row, first: Row, metric: str) -> str | None:
    """Describe a row's difference from the best row if chance explains it, else return None.

    Rows that were scored alike are compared person by person; a difference within two of its
    standard errors is attributed to chance.
    """
    if figure_of(row, metric) is None or row.run.scoring != first.run.scoring:
        return None
    difference = paired_difference(_people(row, metric), _people(first, metric))
    if not difference.identities > 1 or abs(difference.difference) > 2 * difference.error:
        return None
    return (
        f"{difference.difference:+.3f} ±{difference.error:.3f} from row {first.number}, paired "
        f"over {difference.identities} people: within two standard errors"
    )


def figure_of(row: Row, metric: str) -> float | None:
    """Return a row's value of a metric; None if it was not measured."""
    value: Any = row.metrics.get(metric, {}).get("value")
    return finite(value)


def _people(row: Row, metric: str) -> dict[str, float]:
    known = row.metrics[metric].get("by_identity", {})
    return {name: value for name, value in known.items() if finite(value) is not None}
