"""Locate the module of a choice in the package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "portraitlab"


def module_of(group: str, name: str) -> str:
    """The dotted name of the module of a group's component, on whatever floor the group is."""
    found = [*PACKAGE.rglob(f"{group}/{name}.py"), *PACKAGE.glob(f"*/{name}.py")]
    assert found, f"no module {name} of {group}"
    return ".".join(["portraitlab", *found[0].relative_to(PACKAGE).with_suffix("").parts])
