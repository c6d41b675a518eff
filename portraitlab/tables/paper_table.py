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
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from portraitlab.runs.key import PROTOCOL
from portraitlab.support.checks import first_error
from portraitlab.support.paths import CONF, EXPERIMENTS
from portraitlab.support.yaml_files import read_yaml

_Text = Annotated[str, BeforeValidator(str)]
_Settings = Mapping[_Text, _Text]


@dataclass(frozen=True)
class PaperRow:
    """A row: its settings by name, as text, and the figures that the paper prints, by metric."""

    name: _Text
    overrides: _Settings
    paper: Mapping[str, float]

    @property
    def arguments(self) -> list[str]:
        """Settings as on run.py's command line."""
        return [f"{name}={value}" for name, value in self.overrides.items()]

    @property
    def slug(self) -> str:
        """Name in letters, digits and hyphens, for files."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def _is_up(way: Any) -> Any:
    if way not in ("up", "down", True, False):
        raise ValueError(f"{way!r} is neither up nor down")
    return way in ("up", True)


def _with_names(rows: Any) -> Any:
    return [{"name": name, **row} for name, row in rows.items()] if isinstance(rows, dict) else rows


@dataclass(frozen=True)
class PaperTable:
    """The content of table.yaml. Every row sets the same settings.

    command: makes the table. columns: maps a metric to True where higher is better. protocol:
    results of other protocols are ignored.
    """

    folder: Path
    command: _Text
    title: _Text
    paper: _Text
    overrides: _Settings
    seeds: tuple[int, ...]
    heading: _Text
    columns: Mapping[str, Annotated[bool, BeforeValidator(_is_up)]]
    rows: Annotated[tuple[PaperRow, ...], BeforeValidator(_with_names)]
    protocol: int = PROTOCOL

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        for row in self.rows:
            first = self.rows[0]
            if unknown := [metric for metric in row.paper if metric not in self.columns]:
                raise ValueError(f"row {row.name!r} has figures of {', '.join(unknown)}, no column")
            if row.overrides.keys() != first.overrides.keys():
                raise ValueError(
                    f"row {row.name!r} sets {', '.join(row.overrides)}, and row {first.name!r} "
                    f"{', '.join(first.overrides)}; every row must name the same settings"
                )
        for kind, alike in (
            ("settings", {tuple(sorted(row.overrides.items())) for row in self.rows}),
            ("file names", {row.slug for row in self.rows}),
        ):
            if len(alike) < len(self.rows):
                raise ValueError(f"two rows have the same {kind}")
        return self

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
            declared = read_yaml(path, "correct it")
            made = {"folder": folder, "command": f"python run.py table={_name(folder)}"}
            return TypeAdapter(cls).validate_python({**made, **declared})
        except FileNotFoundError as error:
            raise ValueError(f"{folder} has no table.yaml; give a table's folder") from error
        except ValidationError as error:
            raise ValueError(f"{path}: {first_error(error)}") from error

    @property
    def in_a_paper(self) -> bool:
        """True where a paper prints a figure of a row."""
        return any(row.paper for row in self.rows)

    @property
    def question(self) -> str:
        """The question that its comparison of rows answers."""
        return "Is it the paper's order?" if self.in_a_paper else "Which rows differ?"

    def row_label(self, row: str) -> str:
        """Return a row's name; a number, which is unclear alone, is preceded by the heading."""
        return f"{self.heading} {row}" if row.isdigit() else row

    def declaration(self) -> str:
        """Write the table as the text of a table.yaml."""
        content = TypeAdapter(PaperTable).dump_python(self, mode="json", exclude={"folder"})
        content["columns"] = {name: "up" if up else "down" for name, up in self.columns.items()}
        content["rows"] = {row.pop("name"): row for row in content["rows"]}
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
