"""Write files atomically, and read those that may come from anybody within limits."""

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

import yaml

from portraitlab.support.checks import first_error

_REMEDY = "delete the file and run the same command again"
_SUM = "sum"  # of the other entries of a summed file
_MOST_BYTES = 2**25
"""Largest file of text that is read; the largest record of the project has a hundredth of it."""
_MOST_NODES = 50_000
_DEEPEST = 32
# OmegaConf's own loader is ten times slower, which is seconds for hundreds of runs.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    path: Path, schema: type | None = None, remedy: str = _REMEDY
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


class _Settings(_Safe):
    """Loads mappings, lists, text, numbers, true, false and null; a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in _Safe.yaml_implicit_resolvers.items()
    }


_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")
)


def read_yaml(path: Path, remedy: str = _REMEDY) -> dict[str, Any]:
    """Read a file of settings: a mapping of mappings, lists and scalars.

    Raises FileNotFoundError without it, and DamagedFile, which ends in the remedy, for other
    content: other types (tags), aliases, with which a small file describes a huge one, and too much
    or too deep content.
    """
    try:
        loader = _Settings(read_text(path))
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ValueError("it contains no mapping")
        _check_nodes(root)
        content: dict[str, Any] = loader.construct_document(root)
    except RecursionError as error:
        raise damaged(path, "it is nested too deeply", remedy) from error
    except (ValueError, yaml.YAMLError) as error:
        raise damaged(path, str(error).splitlines()[0], remedy) from error
    return content


def _check_nodes(root: yaml.Node) -> None:
    level, seen = [root], set[int]()
    for _ in range(_DEEPEST):
        below: list[yaml.Node] = []
        for node in level:
            if id(node) in seen:
                raise ValueError("it repeats a part by an alias")
            seen.add(id(node))
            if node.tag not in _TAGS:
                raise ValueError(f"it contains a value of the type {node.tag!r}")
            if isinstance(node, yaml.MappingNode):
                below.extend(each for pair in node.value for each in pair)
            elif isinstance(node, yaml.SequenceNode):
                below.extend(node.value)
        if len(seen) + len(below) > _MOST_NODES:
            raise ValueError(f"it contains more than {_MOST_NODES} values")
        level = below
    if level:
        raise ValueError("it is nested too deeply")


def below(folder: Path, pattern: str) -> Iterator[Path]:
    """Glob below a folder, without what symbolic links below it lead to."""
    for path in folder.glob(pattern):
        parts = path.relative_to(folder).parts
        steps = (folder.joinpath(*parts[: count + 1]) for count in range(len(parts)))
        if not any(step.is_symlink() for step in steps):
            yield path
