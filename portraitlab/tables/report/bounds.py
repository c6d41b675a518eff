"""The world's bounds of all figures, each shown once a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portraitlab.tables.report.rows import Report


@dataclass(frozen=True)
class Bound:
    """One bound and the numbers of the rows that it applies to."""

    name: str
    metrics: Mapping[str, Mapping[str, Any]]
    rows: Sequence[int]

    def label(self, report: Report) -> str:
        """Return the bound's name, with row numbers unless all rows with a record have it."""
        scored = [row.number for row in report.rows if row.record is not None]
        if list(self.rows) == scored:
            return self.name
        return f"{self.name} (of {', '.join(map(str, self.rows))})"


def bounds(report: Report) -> list[Bound]:
    """Collect the distinct bounds of all rows; rows that were scored alike share theirs."""
    found: list[tuple[str, Mapping[str, Any], list[int]]] = []
    for row in report.rows:
        for name, metrics in row.bounds.items():
            for known, figures, numbers in found:
                if known == name and figures == metrics:
                    numbers.append(row.number)
                    break
            else:
                found.append((name, metrics, [row.number]))
    return [Bound(*each) for each in found]
