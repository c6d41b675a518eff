"""Write text and JSON atomically, and read files that may come from anybody within limits."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from portraitlab.support.checks import first_error

REMEDY = "delete the file and run the same command again"
_SUM = "sum"  # of the other entries of a summed file
_MOST_BYTES = 2**25
"""Largest file of text that is read; the largest record of the project has a hundredth of it."""


class DamagedFile(ValueError):
    """A file of a run whose content is not as written."""


def damaged(path: Path, reason: object, remedy: str = REMEDY) -> DamagedFile:
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


def write_json(path: Path, content: Mapping[str, Any], summed: bool = False) -> None:
    """Write JSON atomically. Raises ValueError for NaN and infinity, which JSON does not have.

    summed: add a sum of the content, by which read_json notices any change of it.
    """
    if summed:
        content = {name: value for name, value in content.items() if name != _SUM}
        content |= {_SUM: _sum(content)}
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Read a file of UTF-8 text.

    Raises ValueError for a path that is not a regular file, such as a pipe or a device, for a file
    over 32 MB and for other encodings, and OSError where it cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is not a regular file")
    if about.st_size > _MOST_BYTES:
        raise ValueError(f"it has {about.st_size} bytes, and at most {_MOST_BYTES} are read")
    return path.read_text(encoding="utf-8")


def read_json(
    path: Path, schema: type | None = None, remedy: str = REMEDY
) -> dict[str, Any] | None:
    """Read a file of write_json; None where there is no file.

    schema: a TypedDict that the content must fit; further keys are free. Raises DamagedFile, which
    ends in the remedy, for other content, and where it is not as it was summed.
    """
    try:
        text = read_text(path)
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
        if not isinstance(content, dict):
            raise ValueError(f"its content is a {type(content).__name__}, not an object")
        if _SUM in content and content.pop(_SUM) != _sum(content):
            raise ValueError("its content is not as it was written")
        if schema is not None:
            _check_schema(content, schema)
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise damaged(path, "it is nested too deeply", remedy) from error
    except ValueError as error:
        raise damaged(path, error, remedy) from error
    return content


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _check_schema(content: Mapping[str, Any], schema: type) -> None:
    """Check content by pydantic, without converting values. Raises ValueError for other types."""
    from pydantic import ValidationError  # imported late, since commands must start quickly

    try:
        _adapter(schema).validate_python(content, strict=True)
    except ValidationError as error:
        raise ValueError(first_error(error)) from error


@cache
def _adapter(schema: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def below(folder: Path, pattern: str) -> Iterator[Path]:
    """Glob below a folder, without what symbolic links below it lead to."""
    for path in folder.glob(pattern):
        parts = path.relative_to(folder).parts
        steps = (folder.joinpath(*parts[: count + 1]) for count in range(len(parts)))
        if not any(step.is_symlink() for step in steps):
            yield path
