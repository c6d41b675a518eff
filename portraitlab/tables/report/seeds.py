"""Group rows that differ only in their seed: means over seeds and their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from portraitlab.tables.report.rows import Report, Row
from portraitlab.tables.report.standing import figure_of


@dataclass(frozen=True)
class SeedGroup:
    """Two or more rows with records that differ only in their seed."""

    settings: dict[str, str]
    rows: Sequence[Row]

    def spread(self, metric: str) -> tuple[float, float] | None:
        """Return mean and standard deviation over seeds; None if a row was not measured."""
        values = [figure_of(row, metric) for row in self.rows]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return statistics.fmean(known), statistics.stdev(known)


def seed_groups(report: Report) -> list[SeedGroup]:
    """Find the groups of a sweep over seeds, in the order of their first rows."""
    if "seed" not in report.swept:
        return []
    names = [name for name in report.swept if name != "seed"]
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in report.rows:
        if row.record is not None:
            found.setdefault(tuple(row.settings.get(n, "–") for n in names), []).append(row)
    return [
        SeedGroup(dict(zip(names, key, strict=True)), rows)
        for key, rows in found.items()
        if len(rows) > 1
    ]
