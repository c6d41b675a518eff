"""Picture sheets: the rows' portraits of a person side by side, below the inputs."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from portraitlab.support.files import below
from portraitlab.tables.report.rows import Row


@dataclass(frozen=True)
class SheetInputs:
    """The pictures that rows drew a person from: contents of PNG files."""

    references: tuple[bytes, ...]
    target: bytes | None


@dataclass(frozen=True)
class DrawnPortrait:
    """A portrait drawn by a row, and its control image if there is one."""

    row: Row
    generated: bytes
    control: bytes | None


@dataclass(frozen=True)
class Sheet:
    """A person drawn by rows that had the very same inputs."""

    identity: str
    inputs: SheetInputs
    drawn: Sequence[DrawnPortrait]


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """Collect the sheets of all people of all rows, sorted by name.

    A person has one sheet for each distinct set of references and target. Pictures are compared
    byte by byte, so all portraits of a sheet were drawn from the same inputs.
    """
    found: dict[tuple[str, SheetInputs], list[DrawnPortrait]] = {}
    for row in rows:
        if row.record is not None:
            own = row.run.record_folder.relative_to(row.run.folder)
            for path in sorted(below(row.run.folder, f"{own}/samples/*/generated.png")):
                folder, generated = path.parent, _content(path)
                if generated is not None:
                    control = _content(folder / "control-image.png")
                    drawn = DrawnPortrait(row, generated, control)
                    found.setdefault((folder.name, _inputs(folder)), []).append(drawn)
    each = [Sheet(identity, inputs, drawn) for (identity, inputs), drawn in found.items()]
    return sorted(each, key=lambda sheet: sheet.identity)


def picture_source(content: bytes) -> str:
    """Encode a PNG as the source of an <img>, in the page itself."""
    return f"data:image/png;base64,{b64encode(content).decode()}"


def _inputs(folder: Path) -> SheetInputs:
    numbered = {
        int(match[1]): path
        for path in below(folder, "reference-*.png")
        if (match := re.fullmatch(r"reference-(\d+)\.png", path.name))
    }
    references = (_content(numbered[number]) for number in sorted(numbered))
    given = tuple(content for content in references if content is not None)
    return SheetInputs(given, _content(folder / "target.png"))


def _content(path: Path) -> bytes | None:
    """Read a PNG; None without one. The page would embed any other file, or a link's."""
    if path.is_symlink() or not path.is_file():
        return None
    content = path.read_bytes()
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as picture:
            picture.verify()
    except Exception:  # Pillow raises errors of a dozen classes
        return None
    return content
