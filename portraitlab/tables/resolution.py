"""Tabulate differences between rows, and the number of people that makes them significant.

    python -m portraitlab.tables.resolution FOLDER... --document docs/world.md

Reads `results/*.json` in the folders. Rows are compared identity by identity under the same targets
and noise; each identity is first averaged over the seeds. The table is written between the marks of
the document.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from portraitlab.support.table import Table
from portraitlab.tables.document import document_arguments, write_part
from portraitlab.tables.pairing import paired_difference

WANTED = 0.02
"""The difference to detect, by two standard errors."""


def resolution_table(records: Sequence[Mapping[str, Any]], metric: str) -> Table:
    """Tabulate for each pair of rows the difference, its standard error, and people for WANTED.

    Beside the difference of the means over seeds are the least and greatest of single seeds.

    Raises:
        ValueError: there are fewer than two rows, two rows share fewer than two identities or have
            different seeds, or a row has two records of one seed.
    """
    # Sort the records by row and seed.
    rows: dict[str, dict[int, Mapping[str, Any]]] = {}
    for record in records:
        name = f"{record['fusion']}, {record['cond']}"
        if rows.setdefault(name, {}).setdefault(record["seed"], record) is not record:
            raise ValueError(
                f"the row {name!r} has two records of seed {record['seed']}; keep one of them"
            )

    # Compare each pair of rows.
    lines = []
    for one, other in combinations(rows, 2):
        first, second = rows[one], rows[other]
        if first.keys() != second.keys():
            raise ValueError(
                f"the rows {one!r} and {other!r} have the seeds {sorted(first)} and "
                f"{sorted(second)}; a comparison needs the same"
            )
        difference, error, shared = paired_difference(
            _by_identity(first.values(), metric), _by_identity(second.values(), metric)
        )
        if shared < 2:
            raise ValueError(
                f"the rows {one!r} and {other!r} share {shared} identities; a comparison needs two"
            )
        each = [
            paired_difference(
                _by_identity([first[seed]], metric), _by_identity([second[seed]], metric)
            ).difference
            for seed in first
        ]
        needed = math.ceil(shared * (2 * error / WANTED) ** 2)
        lines.append(
            [
                f"{one} − {other}",
                str(len(first)),
                f"{difference:+.3f}",
                f"{min(each):+.3f} to {max(each):+.3f}" if len(each) > 1 else "",
                f"{error:.3f}",
                str(needed),
            ]
        )
    if not lines:
        raise ValueError(f"{len(rows)} row cannot be compared; give records of two rows or more")
    columns = [
        "rows", "seeds", f"{metric} difference", "of single seeds", "standard error",
        "people needed",
    ]  # fmt: skip
    return Table(columns, lines)


def _by_identity(records: Iterable[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """Average the figures of each identity that all records share."""
    known = [record["metrics"][metric]["by_identity"] for record in records]
    shared = set(known[0]).intersection(*known)
    return {name: sum(each[name] for each in known) / len(known) for name in sorted(shared)}


def read_records(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Read the records of all folders, in the order of the folders, then of the files' names."""
    paths = [path for folder in folders for path in sorted(folder.glob("results/*.json"))]
    return [json.loads(path.read_text()) for path in paths]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--metric", default="sim_f")
    document_arguments(parser, "resolution")
    given = parser.parse_args()
    table = resolution_table(read_records(given.folders), given.metric).markdown()
    write_part(given.document, given.part, table)


if __name__ == "__main__":
    main()
