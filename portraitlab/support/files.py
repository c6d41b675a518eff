"""Write files atomically, completely or not at all, and read JSON that fits its schema and sum."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from portraitlab.support.checks import first_error

_REMEDY = "delete the file and run the same command again"
_SUM = "sum"  # of the other entries of a summed file


class DamagedFile(ValueError):
    """A file of a run whose content is not as written."""


def damaged(path: Path, reason: object, remedy: str = _REMEDY) -> DamagedFile:
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


def read_json(
    path: Path, schema: type | None = None, remedy: str = _REMEDY
) -> dict[str, Any] | None:
    """Read a file of write_json; None where there is no file.

    schema: a TypedDict that the content must fit; further keys are free. Raises DamagedFile, which
    ends in the remedy, for other content, and where it is not as it was summed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        if _SUM in content and content.pop(_SUM) != _sum(content):
            raise ValueError("its content is not as it was written")
        if schema is not None:
            _check_schema(content, schema)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from error
    return content


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
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
