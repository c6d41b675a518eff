"""Locate choices in conf/, and their modules in the package."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"
"""Real photos and weights, on machines that have them."""
PACKAGE = ROOT / "portraitlab"
SLOTS = sorted(
    path.name for path in (ROOT / "conf").iterdir() if (PACKAGE / "method" / path.name).is_dir()
)
"""The groups of the method's components."""


def choices() -> list[tuple[str, str]]:
    """Every group and choice of the configuration tree."""
    files = sorted((ROOT / "conf").glob("*/*.yaml"))
    return [(file.parent.name, file.stem) for file in files]


def module_of(group: str, name: str) -> str:
    """The dotted name of the module of a group's component, on whatever floor the group is."""
    found = [*PACKAGE.rglob(f"{group}/{name}.py"), *PACKAGE.glob(f"*/{name}.py")]
    assert found, f"no module {name} of {group}"
    return ".".join(["portraitlab", *found[0].relative_to(PACKAGE).with_suffix("").parts])
