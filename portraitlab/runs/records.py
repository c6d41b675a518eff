"""Tables of records: one run beside the world's bounds, or the jobs of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portraitlab.support.table import Table

Record = Mapping[str, Any]


def record_table(record: Record) -> Table:
    """Tabulate a run and the bounds of its scores; each figure has its standard error."""
    names = list(record["metrics"])
    rows = [["this run", *_figures(record["metrics"], names)]]
    rows += [[name, *_figures(bound, names)] for name, bound in record["bounds"].items()]
    return Table(["", *headings([record])], rows, [faceless_note(record)])


def sweep_table(rows: Sequence[tuple[Mapping[str, str], Record | str]]) -> Table:
    """Tabulate the jobs of a sweep: the swept settings, then the figures or the state.

    rows: each job's overrides, and its record or `STATE: reason`.
    """
    swept = swept_names([overrides for overrides, _ in rows])
    records = [result for _, result in rows if not isinstance(result, str)]
    columns = headings(records)
    names = list(records[0]["metrics"]) if records else []
    lines, notes = [], []
    for overrides, result in rows:
        labels = [overrides.get(name, "") for name in swept]
        if isinstance(result, str):
            lines.append([*labels, *[result.partition(":")[0]] * len(columns)])
            notes.append(f"{' '.join(labels)} {result}")
        else:
            lines.append([*labels, *_figures(result["metrics"], names)])
            notes.append(f"{' '.join(labels)}: {faceless_note(result)}")
    # Add the bounds where all jobs share them.
    bounds = [record["bounds"] for record in records]
    if bounds and all(bound == bounds[0] for bound in bounds) and swept:
        spare = [""] * (len(swept) - 1)
        lines += [[name, *spare, *_figures(bound, names)] for name, bound in bounds[0].items()]
    return Table([*swept, *columns], lines, notes)


def faceless_note(record: Record) -> str:
    """State the number of generated images without a face."""
    if not record["images"]:
        return "no images were generated"
    if not record["faceless"]:
        return f"all {record['images']} generated images contain a face"
    return f"{record['faceless']} of {record['images']} generated images contain no face"


def swept_names(overrides: Sequence[Mapping[str, str]]) -> list[str]:
    """Name the settings that vary between jobs, or all where none does."""
    names = list(dict.fromkeys(name for each in overrides for name in each))
    varying = [name for name in names if len({each.get(name) for each in overrides}) > 1]
    return varying or names or ["run"]


def headings(records: Sequence[Record]) -> list[str]:
    """Name the metrics of records, with an arrow towards better values."""
    metrics = records[0]["metrics"] if records else {}
    return [f"{name} {'↑' if m['higher_is_better'] else '↓'}" for name, m in metrics.items()]


def _figures(metrics: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [figure(metrics[name]) if name in metrics else "" for name in names]


def figure(metric: Mapping[str, Any]) -> str:
    """Format a figure with its standard error."""
    if metric["value"] is None:
        return "not measured"
    error = "" if metric["error"] is None else f" ±{metric['error']:.3f}"
    return f"{metric['value']:.3f}{error}"
