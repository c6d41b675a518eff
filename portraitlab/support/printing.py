"""Print text that anybody may have written: plainly, and quoted where it is part of a command."""

from __future__ import annotations

import io
import re
import sys
from shlex import quote

# Control characters of terminals, those that reverse the order of text, and line separators.
_CONTROL = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0x200E, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    )
    if chr(code) not in "\t\n"
}
_UNQUOTED = re.compile(r"[\w.+%@~/-][\w.+%@~/:-]*", re.ASCII)


def printable(text: object) -> str:
    r"""Write control characters as escapes (`\x1b`), except for the tab and the new line."""
    return str(text).translate(_CONTROL)


def replace_unencodable() -> None:
    """Print `?` to stdout and stderr for characters outside of their encoding, without an error.

    A table's arrow would otherwise end a finished run in a locale of Latin-1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def shell_word(text: object) -> str:
    """Quote one word of a command for bash; control characters are escapes."""
    word = str(text)
    if all(map(_is_plain, word)):
        return quote(word)
    escaped = re.sub(r"[\\']", r"\\\g<0>", word)
    return "$'" + "".join(c if _is_plain(c) else f"\\u{ord(c):04x}" for c in escaped) + "'"


def _is_plain(character: str) -> bool:
    return ord(character) not in _CONTROL and character not in "\t\n"


def setting(name: str, value: object) -> str:
    """Write NAME=VALUE as a word of a command line of `run.py`, quoted for Hydra and for bash."""
    text = str(value)
    if not _UNQUOTED.fullmatch(text) or _is_number(text):
        # A backslash escapes quotes and interpolations, and itself before one of them.
        text = re.sub(r'(\\*)("|\$\{|$)', lambda m: m[1] * 2 + ("\\" if m[2] else "") + m[2], text)
        text = f'"{text}"'
    return shell_word(f"{name}={text}")


def _is_number(text: str) -> bool:
    """Check whether Hydra reads text without quotes as a number, a switch or null."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True
