"""Derive the package's floors from its imports, and write them into docs/architecture.md.

python docs/floors.py

A floor is a folder of portraitlab/ (or types.py); it imports only from floors further down.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "portraitlab"
PAGE = Path(__file__).with_name("architecture.md")


@cache
def imports(package: Path = PACKAGE) -> list[tuple[str, str, str]]:
    """Find the imports of one floor by another: importing floor, imported floor, importing file."""
    return list(_imports(package))


def _imports(package: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(package.rglob("*.py")):
        here = path.relative_to(package)
        floor = here.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                head, _, rest = name.partition(".")
                other = rest.split(".")[0]
                if head == package.name and other and other != floor:
                    yield floor, other, str(here)


def floors(package: Path = PACKAGE) -> list[str]:
    """Order the floors from the top down.

    Raises:
        ValueError: where imports run in a circle, which no order of floors allows.
    """
    below: dict[str, set[str]] = {}
    for path in sorted(package.iterdir()):
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists()):
            below[path.stem] = set()
    for floor, other, _ in imports(package):
        below[floor].add(other)
    try:
        # Sorted, since the order of a set is another in every process.
        order = list(TopologicalSorter({k: sorted(v) for k, v in below.items()}).static_order())
    except CycleError as error:
        arrows = [
            f"{file} imports {other}"
            for floor, other, file in imports(package)
            if floor in error.args[1] and other in error.args[1]
        ]
        raise ValueError(f"imports run in a circle: {'; '.join(arrows)}") from error
    return order[::-1]


def first_line(floor: str, package: Path = PACKAGE) -> str:
    """Read the first line of a floor's docstring, which says what is on it."""
    file = (
        package / floor / "__init__.py" if (package / floor).is_dir() else package / f"{floor}.py"
    )
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]


def imported(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Collect the floors that each floor imports."""
    used: dict[str, set[str]] = {floor: set() for floor in floors(package)}
    for floor, other, _ in imports(package):
        used[floor].add(other)
    return used


def drawing(package: Path = PACKAGE) -> str:
    """Draw the floors in Mermaid, without the arrows that a longer way of arrows implies."""
    used = imported(package)
    below: dict[str, set[str]] = {}  # floors that can be reached
    for floor in reversed(floors(package)):
        below[floor] = used[floor].union(*(below[other] for other in used[floor]))
    lines = ["```mermaid", "graph TD"]
    for floor in floors(package):
        implied = set[str]().union(*(below[other] for other in used[floor]))
        lines += [f"    {floor} --> {other}" for other in sorted(used[floor] - implied)]
    return "\n".join([*lines, "```"]) + "\n"


def table(package: Path = PACKAGE) -> str:
    """List the floors from the top down, with what is on each and which floors it imports."""
    used, order = imported(package), floors(package)
    lines = ["| floor | what is on it | imports |", "| --- | --- | --- |"]
    for floor in order:
        others = ", ".join(sorted(used[floor], key=order.index))
        lines.append(f"| `{floor}` | {first_line(floor, package)} | {others} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Write the drawing and the table of floors into the page's text."""
    start, end = "<!-- floors -->\n", "<!-- end of floors -->"
    head, rest = text.split(start)
    return head + start + drawing() + "\n" + table() + end + rest.split(end)[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
