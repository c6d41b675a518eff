"""The floors of the package: an order that all imports run down, and the map that shows it."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from placed import PACKAGE, ROOT

SCRIPT = ROOT / "docs" / "floors.py"


@pytest.fixture(scope="module")
def floors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floors", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_run_down_the_floors_alone(floors: ModuleType) -> None:
    order = floors.floors()
    assert "types" in order[-2:]
    for floor, other, file in floors.imports():
        assert order.index(floor) < order.index(other), f"{file} imports {other}"


def test_an_import_that_runs_back_up_is_named(floors: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "portraitlab"
    for floor, imported in (("method", "data"), ("data", "method")):
        (package / floor).mkdir(parents=True)
        (package / floor / "__init__.py").touch()
        (package / floor / "part.py").write_text(f"from portraitlab.{imported} import part\n")
    with pytest.raises(ValueError, match=r"method/part\.py imports data"):
        floors.floors(package)


def test_every_floor_is_described(floors: ModuleType) -> None:
    assert all(floors.first_line(floor) for floor in floors.floors())


def test_the_map_shows_the_floors_as_they_are(floors: ModuleType) -> None:
    text = floors.PAGE.read_text()
    assert floors.page(text) == text, "run python docs/floors.py"


def test_a_class_has_a_name_of_its_own() -> None:
    named: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == {}


def test_tests_are_beside_the_floor_that_they_test() -> None:
    folders = [path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/**/test_*.py")]
    assert not [folder for folder in {*folders} if not (PACKAGE / folder).is_dir()]
