"""Read YAML files that anybody may have written, within limits of size, depth and types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from portraitlab.support.files import REMEDY, damaged, read_text

_MOST_NODES = 50_000
_DEEPEST = 32
# OmegaConf's own loader is ten times slower, which is seconds for hundreds of runs.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Settings(_Safe):
    """Loads mappings, lists, text, numbers, true, false and null; a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in _Safe.yaml_implicit_resolvers.items()
    }


_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")
)


def read_yaml(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
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
