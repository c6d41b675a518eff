"""The pictures beside a table's results: portraits, targets and references.

    results/<row>-<seed>.png    the portraits of the shown people, side by side
    results/people.png          their targets, and below them their references, one line each

A result names under `shown` the people, and the hashes of the lines of people.png that it was drawn
from. Hence portraits of other pictures are never shown below these.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from portraitlab.support.files import below, damaged, write_bytes
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result, result_path

_EDGE = 128
"""Largest edge in pixels; larger pictures are reduced to it, smaller ones keep their size."""


@dataclass(frozen=True)
class ShownRow:
    """The portraits of a row: one square picture a person."""

    name: str
    portraits: Sequence[Image.Image]


@dataclass(frozen=True)
class ShownTable:
    """People with their targets and references [people][references], and the rows' portraits."""

    people: Sequence[str]
    targets: Sequence[Image.Image]
    references: Sequence[Sequence[Image.Image]]
    rows: Sequence[ShownRow]


def keep_pictures(samples: Path, strip: Path) -> dict[str, Any] | None:
    """Write a result's pictures from a record's samples; return the result's entry `shown`.

    samples: folder of <person>/{target,generated,reference-1, ...}.png. strip: the result's
    picture; people.png is beside it. Without samples returns None and writes nothing.
    """
    people = sorted(path.parent for path in below(samples, "*/generated.png"))
    if not people:
        return None
    references = sorted(
        (path.name for path in below(people[0], "reference-*.png")),
        key=lambda name: int(re.sub(r"\D", "", name)),
    )
    write_bytes(strip, _png(_line(people, "generated.png")))
    given = [_line(people, name) for name in ("target.png", *references)]
    hashes = [_hash(line) for line in given]
    known = strip.with_name("people.png")
    # Rows with fewer references have the first ones: keep the longest list.
    if not known.is_file() or _hashes(_lines(known, len(people)))[: len(hashes)] != hashes:
        write_bytes(known, _png(_stack(given)))
    return {"people": [person.name for person in people], "given": hashes}


def read_pictures(table: PaperTable, results: Sequence[Result]) -> ShownTable | None:
    """Read the pictures of the table's first seed, of the rows drawn from the same photos.

    None where no row has any. Raises DamagedFile (a ValueError) where a picture is damaged.
    """
    known = result_path(table.folder, table.rows[0], 0).with_name("people.png")
    seed = table.seeds[0]
    drawn = [each for each in results if each.seed == seed and each.content.get("shown")]
    if not drawn or not known.is_file():
        return None
    people = drawn[0].content["shown"]["people"]
    given = _lines(known, len(people))
    hashes = _hashes(given)
    rows = []
    for each in drawn:
        (row,) = (row for row in table.rows if row.name == each.row)
        strip, shown = (
            result_path(table.folder, row, seed).with_suffix(".png"),
            each.content["shown"],
        )
        alike = shown["people"] == people and hashes[: len(shown["given"])] == shown["given"]
        if alike and strip.is_file():
            rows.append(
                ShownRow(table.row_label(row.name), _squares(_lines(strip, len(people))[0]))
            )
    if not rows:
        return None
    targets, *references = [_squares(line) for line in given]
    return ShownTable(people, targets, list(zip(*references, strict=True)), rows)


def _line(people: Sequence[Path], name: str) -> Image.Image:
    """Put the people's pictures of one file name side by side."""
    pictures = []
    for person in people:
        with Image.open(person / name, formats=["PNG"]) as picture:
            own = picture.convert("RGB")
        own.thumbnail((_EDGE, _EDGE))
        pictures.append(own)
    edge = pictures[0].width
    line = Image.new("RGB", (edge * len(pictures), edge))
    for place, own in enumerate(pictures):
        line.paste(own, (edge * place, 0))
    return line


def _stack(lines: Sequence[Image.Image]) -> Image.Image:
    """Stack lines of one size below one another."""
    width, height = lines[0].size
    stack = Image.new("RGB", (width, height * len(lines)))
    for place, line in enumerate(lines):
        stack.paste(line, (0, height * place))
    return stack


def _lines(path: Path, people: int) -> list[Image.Image]:
    """Read a file of lines with `people` square pictures each.

    Raises DamagedFile where the file is not a picture.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            whole = picture.convert("RGB")
    except OSError as error:
        raise damaged(path, error) from error
    edge = whole.width // people
    return [
        whole.crop((0, top, whole.width, top + edge))
        for top in range(0, whole.height, max(edge, 1))
    ]


def _squares(line: Image.Image) -> list[Image.Image]:
    edge = line.height
    return [line.crop((left, 0, left + edge, edge)) for left in range(0, line.width, edge)]


def _hashes(lines: Sequence[Image.Image]) -> list[str]:
    return [_hash(line) for line in lines]


def _hash(line: Image.Image) -> str:
    return hashlib.sha256(repr(line.size).encode() + line.tobytes()).hexdigest()[:8]


def _png(picture: Image.Image) -> bytes:
    content = BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return content.getvalue()
