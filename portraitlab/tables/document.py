"""Parts of a document that are written by a command, between two marks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from portraitlab.support.files import write_text


def replace_part(text: str, part: str, content: str) -> str:
    """The document with what stands between `<!-- part -->` and `<!-- end of part -->` replaced.

    Raises ValueError where the document does not hold each mark once.
    """
    start, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->\n"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(
            f"the document needs the lines {start.strip()} and {end.strip()} once each"
        )
    head, rest = text.split(start)
    return head + start + content + end + rest.split(end)[1]


def write_part(document: Path, part: str, content: str) -> None:
    """Replace one part of a document file, see replace_part, and print where.

    Raises ValueError where there is no such file, and where it does not hold each mark once.
    """
    if not document.is_file():
        raise ValueError(f"there is no document {document}")
    try:
        text = replace_part(document.read_text(encoding="utf-8"), part, content)
    except ValueError as error:
        raise ValueError(f"{document}: {error}") from error
    write_text(document, text)
    print(f"{part}: {document}")


def part_command(description: str, part: str, content: Callable[[Path], str]) -> None:
    """Run the command `SOURCE --document DOCUMENT`, which writes a part as content(SOURCE).

    description: what --help says. part: which, where --part names no other, as it must in a
    document that has two of a kind. Raises ValueError where content or replace_part do.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path, help="folder or record that the part is made of")
    document_arguments(parser, part)
    given = parser.parse_args()
    write_part(given.document, given.part, content(given.source))


def document_arguments(parser: argparse.ArgumentParser, part: str) -> None:
    """Which document and which part of it a command writes; the part by default as given."""
    parser.add_argument("--document", type=Path, required=True)
    parser.add_argument("--part", default=part, help=f"name of the marks (default: {part})")
