"""The table of planted faults: what moved, and by how many standard errors.

    python -m portraitlab.tables.sensitivity RECORD.json --document docs/world.md

The table goes between the marks of the document.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portraitlab.tables.document import write_part
from portraitlab.tables.scores import figure, headings
from portraitlab.tables.table import Table


def sensitivity_table(record: Mapping[str, Any]) -> Table:
    """The figures without a fault, then each fault's paired differences; bold: should move."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--document", type=Path, required=True)
    given = parser.parse_args()
    table = sensitivity_table(json.loads(given.record.read_text())).markdown()
    write_part(given.document, "sensitivity", table)


if __name__ == "__main__":
    main()
