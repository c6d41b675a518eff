"""How small a difference between two rows a test set tells from chance.

    python -m portraitlab.tables.resolution FOLDER --document docs/world.md

Reads `results/*.json` in the folder. Rows are compared identity by identity under the same targets
and noise, after each identity's mean over the seeds that are there. The table goes between the
marks of the document.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from portraitlab.tables.document import write_part
from portraitlab.tables.pairing import paired_difference
from portraitlab.tables.table import Table

WANTED = 0.02
"""The difference that is to be told from chance, by two standard errors."""


def resolution_table(records: Sequence[Mapping[str, Any]], metric: str) -> Table:
    """One line for each pair of rows: difference, its standard error, people needed for WANTED.

    Raises ValueError where fewer than two rows were scored on the same two identities or more.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        rows.setdefault(f"{record['fusion']}, {record['cond']}", []).append(record)
    lines = []
    for one, other in combinations(rows, 2):
        first, second = (_by_identity(rows[name], metric) for name in (one, other))
        difference, error, shared = paired_difference(first, second)
        if shared < 2:
            raise ValueError(
                f"the rows {one!r} and {other!r} share {shared} identities; a comparison needs two"
            )
        needed = math.ceil(shared * (2 * error / WANTED) ** 2)
        seeds = min(len(rows[one]), len(rows[other]))
        lines.append(
            [
                f"{one} − {other}",
                str(seeds),
                f"{difference:+.3f}",
                f"{error:.3f}",
                str(needed),
            ]
        )
    if not lines:
        raise ValueError(f"{len(rows)} row is no comparison; give records of two rows or more")
    columns = ["rows", "seeds", f"{metric} difference", "standard error", "people needed"]
    return Table(columns, lines)


def _by_identity(records: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """An identity's mean over records, of the identities that all of them know."""
    known = [record["metrics"][metric]["by_identity"] for record in records]
    shared = set(known[0]).intersection(*known)
    return {name: sum(each[name] for each in known) / len(known) for name in sorted(shared)}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metric", default="sim_f")
    parser.add_argument("--document", type=Path, required=True)
    given = parser.parse_args()
    records = [json.loads(path.read_text()) for path in sorted(given.folder.glob("results/*.json"))]
    table = resolution_table(records, given.metric).markdown()
    write_part(given.document, "resolution", table)


if __name__ == "__main__":
    main()
