"""Picture sheets: the rows' portraits of a person side by side, under what they were drawn from."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portraitlab.tables.report.rows import Row


@dataclass(frozen=True)
class Given:
    """What rows were given to draw a person: PNG files' contents."""

    references: tuple[bytes, ...]
    target: bytes | None


@dataclass(frozen=True)
class Drawn:
    """What a row drew, and the control image that it drew by, where it has one."""

    row: Row
    generated: bytes
    control: bytes | None


@dataclass(frozen=True)
class Sheet:
    """A person drawn by rows that were given the very same pictures."""

    identity: str
    given: Given
    drawn: Sequence[Drawn]


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """All people of all rows, in the order of their names.

    A person has one sheet for each set of references and target that rows have: pictures are
    compared byte by byte, so what stands under the same references was drawn from the same.
    """
    found: dict[tuple[str, Given], list[Drawn]] = {}
    for row in rows:
        if row.record is not None:
            for folder in sorted((row.run.record_folder / "samples").glob("*/")):
                generated = _content(folder / "generated.png")
                if generated is not None:
                    drawn = Drawn(row, generated, _content(folder / "control-image.png"))
                    found.setdefault((folder.name, _given(folder)), []).append(drawn)
    each = [Sheet(identity, given, drawn) for (identity, given), drawn in found.items()]
    return sorted(each, key=lambda sheet: sheet.identity)


def picture_source(content: bytes) -> str:
    """A PNG as the source of an <img>, in the page itself."""
    return f"data:image/png;base64,{b64encode(content).decode()}"


def _given(folder: Path) -> Given:
    numbered = {
        int(match[1]): path
        for path in folder.glob("reference-*.png")
        if (match := re.fullmatch(r"reference-(\d+)\.png", path.name))
    }
    references = tuple(numbered[number].read_bytes() for number in sorted(numbered))
    return Given(references, _content(folder / "target.png"))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
