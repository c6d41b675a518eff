"""Find the settings in which rows differ, by dotted path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portraitlab.runs.key import PLACES
from portraitlab.support.groups import IDLE


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of nested mappings as text, with their dotted paths. Lists are one value."""
    if isinstance(value, Mapping) and value:
        for name, below in value.items():
            yield from leaves(below, f"{path}.{name}" if path else str(name))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def flattened(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Flatten a configuration to values by dotted path, without those that change no figure."""
    return {path: value for path, value in leaves(configuration) if not _idle(path)}


def differing(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """List the dotted paths whose values differ, or that are missing in some configurations."""
    paths = dict.fromkeys(path for each in configurations for path in each)
    return [path for path in paths if len({each.get(path) for each in configurations}) > 1]


def _idle(path: str) -> bool:
    """Return True if a setting changes no figure."""
    names = path.removeprefix("choices.").split(".")
    return names[0] in IDLE or any(name in PLACES for name in names)
