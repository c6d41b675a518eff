"""Tabulate planted faults: the change of each figure, also in standard errors.

    python -m portraitlab.tables.sensitivity RECORD.json --document docs/world.md

The table is written between the marks of the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from portraitlab.runs.records import figure, headings
from portraitlab.support.table import Table
from portraitlab.tables.document import part_command


def sensitivity_table(record: Mapping[str, Any]) -> Table:
    """Tabulate the figures without a fault, then each fault's changes; bold ones should move."""
    names = list(record["metrics"])
    rows = [["no fault", *(figure(record["metrics"][name]) for name in names)]]
    for fault, found in record["faults"].items():
        cells = [_difference(found["metrics"][name], name in found["moves"]) for name in names]
        rows.append([fault.replace("_", " "), *cells])
    note = "In brackets: the difference in standard errors of paired identities."
    return Table(["", *headings([record])], rows, [note])


def _difference(change: Mapping[str, Any], expected: bool) -> str:
    difference, error = change["difference"], change["error"]
    if difference is None:
        return "not measured"
    text = f"{difference:+.3f}"
    if error:
        text += f" ({difference / error:+.1f})"
    return f"**{text}**" if expected else text


def main() -> None:
    """Run the command."""
    part_command(
        __doc__.splitlines()[0],
        "sensitivity",
        lambda record: sensitivity_table(json.loads(record.read_text())).markdown(),
    )


if __name__ == "__main__":
    main()
