"""In which settings rows differ: configurations by dotted path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portraitlab.runs.key import PLACES

# Top settings that say where things lie and how jobs are run and watched, and change no figure.
NO_DIFFERENCE = frozenset(
    {"runs", "cache", "group", "jobs", "fresh", "logger", "launcher", "hydra", "debug"}
)


def flattened(configuration: Any) -> dict[str, str]:
    """A configuration's values by dotted path, without those that change no figure.

    Lists are one value. Raises ValueError where it is not a mapping.
    """
    if not isinstance(configuration, Mapping):
        raise ValueError("it is no list of names and values")
    return dict(_leaves(configuration, ()))


def differing(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """The dotted paths that have other values, or are missing, in some of the configurations."""
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
    """Whether a setting changes no figure."""
    own = path[1:] if path[0] == "choices" else path
    return path[-1] in PLACES or (own[:1] == path[-1:] and own[0] in NO_DIFFERENCE)
