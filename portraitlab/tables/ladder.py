"""Tabulate a method between the bounds: from another identity to the person's own photos.

    python -m portraitlab.tables.ladder experiments/hifi_portrait/ladder --document README.md

Reads `ladder.yaml` in the folder: each rung names a record, and for a bound also the bound. The
table is written between the marks of the document, so that no published figure is typed by hand.
"""

from __future__ import annotations

from pathlib import Path

from portraitlab.runs.records import figure, headings
from portraitlab.runs.run import Record
from portraitlab.support.files import read_json
from portraitlab.support.table import Table
from portraitlab.support.yaml_files import read_yaml
from portraitlab.tables.document import part_command


def ladder_table(folder: Path) -> str:
    """Write the rungs as Markdown, in the order of ladder.yaml, with the metrics that it names.

    Raises ValueError where a record or a bound is missing.
    """
    declared = read_yaml(folder / "ladder.yaml")
    rows, records = [], []
    for name, rung in declared["rungs"].items():
        path = folder / rung["record"]
        record = read_json(path, Record)
        if record is None:
            raise ValueError(f"{folder / 'ladder.yaml'}: rung {name!r} needs {path}")
        bound = rung.get("bound")
        if bound is not None and bound not in record["bounds"]:
            raise ValueError(
                f"{folder / 'ladder.yaml'}: rung {name!r} needs the bound {bound!r}; "
                f"{path} has {', '.join(record['bounds'])}"
            )
        metrics = record["metrics"] if bound is None else record["bounds"][bound]
        rows.append([name, *(figure(metrics[metric]) for metric in declared["metrics"])])
        records.append(record)
    chosen = {name: records[0]["metrics"][name] for name in declared["metrics"]}
    return Table(["", *headings([{"metrics": chosen}])], rows).markdown()


def main() -> None:
    """Run the command."""
    part_command(__doc__.splitlines()[0], "ladder", ladder_table)


if __name__ == "__main__":
    main()
