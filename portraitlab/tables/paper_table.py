"""Tables of a paper: rows as settings, and the numbers that the paper prints.

A table is declared in `table.yaml` in a folder of its own, experiments/PAPER/TABLE:

    title, paper     title, and the place in the paper
    command          command that makes it (default: python run.py table=PAPER/TABLE)
    overrides        settings of all rows, as on run.py's command line
    seeds            training seeds of each row
    heading          heading of the first column
    columns          metrics, with the direction in which each is better (up or down)
    rows             by the paper's names: `overrides` of each, and figures that the `paper` prints
    protocol         scoring protocol, see portraitlab.runs.key (default: the current one)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from portraitlab.runs.key import PROTOCOL
from portraitlab.support.paths import CONF, EXPERIMENTS


@dataclass(frozen=True)
class PaperRow:
    """A row: its settings by name, as text, and the figures that the paper prints, by metric."""

    name: str
    overrides: Mapping[str, str]
    paper: Mapping[str, float]

    @property
    def arguments(self) -> list[str]:
        """Settings as on run.py's command line."""
        return [f"{name}={value}" for name, value in self.overrides.items()]

    @property
    def slug(self) -> str:
        """Name in letters, digits and hyphens, for files."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class PaperTable:
    """The content of table.yaml. Every row sets the same settings.

    command: that makes the table. columns: by metric, True where higher is better. protocol:
    results that were scored by another are ignored.
    """

    folder: Path
    command: str
    title: str
    paper: str
    overrides: Mapping[str, str]
    seeds: tuple[int, ...]
    heading: str
    columns: Mapping[str, bool]
    rows: tuple[PaperRow, ...]
    protocol: int = PROTOCOL

    @property
    def name(self) -> str:
        """Name as PAPER/TABLE."""
        return _name(self.folder)

    @property
    def row_settings(self) -> tuple[str, ...]:
        """Names of the settings that distinguish the rows."""
        return tuple(self.rows[0].overrides)

    @classmethod
    def read(cls, folder: Path) -> PaperTable:
        """Read the table.yaml of a folder.

        Raises ValueError, with the file and the place in it, where it is missing or invalid.
        """
        path = folder / "table.yaml"
        try:
            declared = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(
                folder=folder,
                command=str(declared.get("command", f"python run.py table={_name(folder)}")),
                title=str(declared["title"]),
                paper=str(declared["paper"]),
                overrides=_texts(declared["overrides"]),
                seeds=tuple(int(seed) for seed in declared["seeds"]),
                heading=str(declared["heading"]),
                columns={name: _ways[way] for name, way in declared["columns"].items()},
                rows=_rows(declared["rows"], declared["columns"]),
                protocol=int(declared.get("protocol", PROTOCOL)),
            )
        except FileNotFoundError as error:
            raise ValueError(f"{folder} holds no table: table.yaml is not there") from error
        except KeyError as error:
            raise ValueError(f"{path}: {error} is missing or unknown") from error
        except (yaml.YAMLError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def row_label(self, row: str) -> str:
        """Return a row's name; a number, which is unclear alone, is preceded by the heading."""
        return f"{self.heading} {row}" if row.isdigit() else row

    def declaration(self) -> str:
        """Write the table as the text of a table.yaml."""
        content = {
            "command": self.command,
            "title": self.title,
            "paper": self.paper,
            "overrides": dict(self.overrides),
            "seeds": list(self.seeds),
            "heading": self.heading,
            "columns": {name: "up" if up else "down" for name, up in self.columns.items()},
            "rows": {
                row.name: {"overrides": dict(row.overrides), "paper": dict(row.paper)}
                for row in self.rows
            },
            "protocol": self.protocol,
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)

    def row_of(self, overrides: Mapping[str, str]) -> PaperRow:
        """Find the row that a job's overrides belong to."""
        own = {name: overrides[name] for name in self.row_settings}
        (found,) = [row for row in self.rows if row.overrides == own]
        return found


def known_tables() -> list[str]:
    """List the tables that run.py knows, as PAPER/TABLE."""
    found = (CONF / "table").glob("*/*.yaml")
    return sorted(f"{path.parent.name}/{path.stem}" for path in found)


def find_table(name: str) -> PaperTable:
    """Read a table by folder or PAPER/TABLE. Raises ValueError, with the known ones, otherwise."""
    for folder in (Path(name), EXPERIMENTS / name):
        if (folder / "table.yaml").is_file():
            return PaperTable.read(folder)
    raise ValueError(
        f"there is no table {name!r}; give the folder of one, or one of {', '.join(known_tables())}"
    )


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


_ways = {"up": True, "down": False}


def _texts(overrides: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in overrides.items()}


def _rows(declared: Mapping[str, Any], columns: Mapping[str, Any]) -> tuple[PaperRow, ...]:
    rows = []
    for name, row in declared.items():
        printed = {metric: float(value) for metric, value in row["paper"].items()}
        unknown = [metric for metric in printed if metric not in columns]
        if unknown:
            raise ValueError(f"row {name!r} has figures of {', '.join(unknown)}, no column")
        rows.append(PaperRow(str(name), _texts(row["overrides"]), printed))
    for row in rows:
        if row.overrides.keys() != rows[0].overrides.keys():
            raise ValueError(
                f"row {row.name!r} sets {', '.join(row.overrides)}, and row {rows[0].name!r} "
                f"{', '.join(rows[0].overrides)}; every row must name the same settings"
            )
    for kind, alike in (
        ("settings", [tuple(sorted(row.overrides.items())) for row in rows]),
        ("file names", [row.slug for row in rows]),
    ):
        if len(set(alike)) < len(rows):
            raise ValueError(f"two rows have the same {kind}")
    return tuple(rows)
