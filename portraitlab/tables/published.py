"""Write committed records as a table beside the paper's numbers.

    python -m portraitlab.tables.published FOLDER --document README.md

Reads `table.yaml` and `results/*.json` in the folder; `metrics` in the former names the columns,
all by default. The table is written between the marks of the document, so that no published figure
is typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portraitlab.runs.records import figure, headings
from portraitlab.runs.run import Record
from portraitlab.support.files import read_json
from portraitlab.support.table import Table
from portraitlab.support.yaml_files import read_yaml
from portraitlab.tables.document import part_command


def published_table(folder: Path) -> str:
    """Write the declared rows of a folder as Markdown, then the world's bounds.

    Raises ValueError where a declared row has no record, or a record has no row.
    """
    declared = read_yaml(folder / "table.yaml")
    records = [read_json(path, Record) or {} for path in sorted(folder.glob("results/*.json"))]
    rows = {name: _record_of(name, row, records, folder) for name, row in declared["rows"].items()}
    if len(records) != len(rows):
        raise ValueError(
            f"{folder / 'results'} has {len(records)} records for {len(rows)} declared rows; "
            "declare the others in table.yaml or remove them"
        )
    first = next(iter(rows.values()))
    chosen = declared.get("metrics", list(first["metrics"]))
    lines = []
    for name, record in rows.items():
        lines.append([name, *(figure(record["metrics"][key]) for key in chosen)])
        paper = declared["rows"][name]["paper"]
        if paper:
            printed = [f"{paper[key]:g}" if key in paper else "" for key in chosen]
            lines.append(["*the paper, full size*", *printed])
    for bound, metrics in first["bounds"].items():
        cells = [figure(metrics[key]) if key in metrics else "" for key in chosen]
        lines.append([f"*{bound}*", *cells])
    shown = {key: first["metrics"][key] for key in chosen}
    return Table(["", *headings([{"metrics": shown}])], lines).markdown()


def _record_of(
    name: str, row: Mapping[str, Any], records: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    choices = row["choices"].items()
    found = [each for each in records if all(each[key] == value for key, value in choices)]
    if len(found) != 1:
        raise ValueError(
            f"{folder / 'results'} has {len(found)} records of the row {name!r} "
            f"({dict(choices)}); one is needed"
        )
    return found[0]


def main() -> None:
    """Run the command."""
    part_command(__doc__.splitlines()[0], "results", published_table)


if __name__ == "__main__":
    main()
