"""Parts of a document that a command writes between two marks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from portraitlab.support.files import write_text


def replace_part(text: str, part: str, content: str) -> str:
    """Replace the text between `<!-- part -->` and `<!-- end of part -->` in a document.

    Raises ValueError where the document does not contain each mark exactly once.
    """
    start, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->\n"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(
            f"the document needs the lines {start.strip()} and {end.strip()} once each"
        )
    head, rest = text.split(start)
    return head + start + content + end + rest.split(end)[1]


def write_part(document: Path, part: str, content: str) -> None:
    """Replace one part of a document file, see replace_part, and print the file's path.

    Raises ValueError where the file is missing or does not contain each mark exactly once.
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

    description: text of --help. part: default of --part, which must be given in a document that
    has two parts of a kind. Raises ValueError where content or replace_part do.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path, help="folder or record that the part is made of")
    document_arguments(parser, part)
    given = parser.parse_args()
    write_part(given.document, given.part, content(given.source))


def document_arguments(parser: argparse.ArgumentParser, part: str) -> None:
    """Add the options --document and --part, the part of it to write, with `part` as default."""
    parser.add_argument("--document", type=Path, required=True)
    parser.add_argument("--part", default=part, help=f"name of the marks (default: {part})")
