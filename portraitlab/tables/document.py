"""Parts of a document that are written by a command, between two marks."""

from __future__ import annotations


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
