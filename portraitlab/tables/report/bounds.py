"""The world's bounds of a page: what all figures lie between, told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portraitlab.tables.report.rows import Report


@dataclass(frozen=True)
class Bound:
    """One bound and the numbers of the rows that have it."""

    name: str
    metrics: Mapping[str, Mapping[str, Any]]
    rows: Sequence[int]

    def label(self, report: Report) -> str:
        """Its name, and whose it is where it is not that of every row with a record."""
        scored = [row.number for row in report.rows if row.record is not None]
        if list(self.rows) == scored:
            return self.name
        return f"{self.name} (of {', '.join(map(str, self.rows))})"


def bounds(report: Report) -> list[Bound]:
    """The different bounds of all rows, each once: rows that were scored alike share theirs."""
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
