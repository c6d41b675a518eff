"""Write files atomically: completely or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class DamagedFile(ValueError):
    """A file of a run whose content is not as written."""


def damaged(
    path: Path, reason: object, remedy: str = "delete the file and run the same command again"
) -> DamagedFile:
    """Return the error to raise for a file that cannot be read as written."""
    return DamagedFile(f"{path} is damaged ({reason}); {remedy}")


def write_text(path: Path, text: str) -> None:
    """Write text atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, by renaming a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_bytes(content)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, needs: Sequence[str] = ()) -> dict[str, Any] | None:
    """Read a file of write_json; None where there is no file.

    needs: keys that the content must have. Raises DamagedFile for other content.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        absent = [key for key in needs if key not in content]
        if absent:
            raise ValueError(f"it lacks {', '.join(absent)}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise damaged(path, error) from error
    return content
