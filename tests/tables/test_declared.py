"""Check the declarations of the papers' tables, and which are refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml
from making import declare

from portraitlab.scoring.matching import WITHIN, views_suffix
from portraitlab.support.paths import CONF, EXPERIMENTS
from portraitlab.tables.composing import composed, declared_arguments
from portraitlab.tables.paper_table import PaperTable, find_table, known_tables


@pytest.mark.parametrize("name", known_tables())
def test_every_table_is_declared_where_run_py_knows_it(name: str) -> None:
    table = find_table(name)
    assert table.name == name
    choice = yaml.safe_load((CONF / "table" / f"{name}.yaml").read_text())
    assert choice["hydra"]["sweeper"]["table"] == name
    for row in table.rows:
        assert row.paper.keys() <= table.columns.keys()


@pytest.mark.parametrize("name", known_tables())
def test_a_table_is_of_people_that_nothing_was_chosen_on(name: str) -> None:
    assert find_table(name).overrides["data.split"] in ("test", "test_look_alikes")


@pytest.mark.parametrize("name", known_tables())
def test_a_table_measures_its_columns(name: str) -> None:
    table = find_table(name)
    settings = composed(declared_arguments(table, table.rows[0], table.seeds[0]))
    measured = set(settings["metrics"])
    if settings["choices"]["task"] == "match":
        kinds = ("error", "face_error", *(f"within_{most}" for most in WITHIN))
        views = product(settings["task"]["degrees"], settings["task"]["shares"])
        measured = {f"{kind}_{views_suffix(*each)}" for each in views for kind in kinds}
    assert table.columns.keys() <= measured


def test_run_py_knows_every_table_that_is_declared() -> None:
    declared = {
        f"{path.parents[1].name}/{path.parent.name}"
        for path in EXPERIMENTS.glob("*/*/table.yaml")
        if "columns" in yaml.safe_load(path.read_text())
    }
    assert declared == set(known_tables())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": {"score": "sideways"}}, "columns.score: 'sideways' is neither up nor down"),
        ({"columns": {"error": "down"}}, "row 'worst' has figures of score, no column"),
        ({"seeds": ["one"]}, "seeds.0: Input should be a valid integer"),
        ({"rows": None}, "rows: Input should be a valid tuple"),
        (
            {
                "rows": {
                    "a": {"overrides": {"fusion": "x"}, "paper": {}},
                    "b": {"overrides": {"cond": "x"}, "paper": {}},
                }
            },
            "row 'b' sets cond, and row 'a' fusion; every row must name the same settings",
        ),
        (
            {
                "rows": {
                    "a": {"overrides": {"fusion": "x"}, "paper": {}},
                    "b": {"overrides": {"fusion": "x"}, "paper": {}},
                }
            },
            "two rows have the same settings",
        ),
        (
            {
                "rows": {
                    "a & b": {"overrides": {"fusion": "x"}, "paper": {}},
                    "a, b": {"overrides": {"fusion": "y"}, "paper": {}},
                }
            },
            "two rows have the same file names",
        ),
    ],
)
def test_a_wrong_declaration_is_located(tmp_path: Path, changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=r"table\.yaml: .*") as raised:
        declare(tmp_path, **changed)
    assert message in str(raised.value)


def test_a_declaration_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = declare(tmp_path / "papers" / "table1")
    assert table.name == "papers/table1"
    assert table.command == "python run.py table=papers/table1"
    (table.folder / "table.yaml").write_text(table.declaration())
    assert PaperTable.read(table.folder) == table


def test_an_unknown_table_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no table 'hifi/table9'.*hifi_portrait/table2"):
        find_table("hifi/table9")
    with pytest.raises(ValueError, match=r"has no table\.yaml"):
        PaperTable.read(tmp_path)
