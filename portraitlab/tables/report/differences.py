"""Find the settings in which rows differ, by dotted path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portraitlab.runs.key import PLACES

# Top settings of paths, launching and logging, which change no figure.
NO_DIFFERENCE = frozenset(
    {"runs", "cache", "group", "jobs", "fresh", "logger", "launcher", "hydra", "debug"}
)


def flattened(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Flatten a configuration to values by dotted path, without those that change no figure.

    Lists are one value.
    """
    return dict(_leaves(configuration, ()))


def differing(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """List the dotted paths whose values differ, or that are missing in some configurations."""
    paths = dict.fromkeys(path for each in configurations for path in each)
    return [path for path in paths if len({each.get(path) for each in configurations}) > 1]


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, below in value.items():
            inner = (*path, str(name))
            if not _idle(inner):
                yield from _leaves(below, inner)
    else:
        yield ".".join(path), value if isinstance(value, str) else json.dumps(value)


def _idle(path: Sequence[str]) -> bool:
    """Return True if a setting changes no figure."""
    own = path[1:] if path[0] == "choices" else path
    return path[-1] in PLACES or (own[:1] == path[-1:] and own[0] in NO_DIFFERENCE)
