"""The papers' tables that are committed: declarations, results and READMEs agree."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from composing import settings_of

from portraitlab.app.cli.main import main
from portraitlab.runs.key import decisive, keys_of
from portraitlab.runs.run import Run
from portraitlab.support.paths import CONF, EXPERIMENTS
from portraitlab.tables import outlook
from portraitlab.tables.composing import declared_arguments, declared_run
from portraitlab.tables.figures.drawing import figures
from portraitlab.tables.paper_readme import readme
from portraitlab.tables.paper_table import find_table, known_tables
from portraitlab.tables.results import read_results, result_path

FIRST_EDITION = sorted(
    path.parent.name for path in EXPERIMENTS.glob("hifi_portrait/first_edition/table*/table.yaml")
)
RESULTS = sorted(EXPERIMENTS.rglob("table*/results/*.json"))


def test_there_are_results() -> None:
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_result_has_the_key_of_its_own_settings(path: Path) -> None:
    content = json.loads(path.read_text())
    assert keys_of(content["settings"]) == (content["key"], content["scoring"])


@pytest.mark.parametrize("name", known_tables())
def test_every_declared_row_is_a_run_of_its_own(name: str) -> None:
    table = find_table(name)
    runs = [Run.of(settings_of(*declared_arguments(table, row, 0))) for row in table.rows]
    assert len({(run.key, run.scoring) for run in runs}) == len(table.rows)


def test_no_setting_is_made_of_the_seed() -> None:
    """Check that rows may be composed for one seed, and others put in their settings."""
    files = [*CONF.rglob("*.yaml"), *EXPERIMENTS.rglob("table.yaml")]
    assert not [path for path in files if re.search(r"\$\{[^}]*\bseed\b", path.read_text())]


def test_every_table_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    # Most rows are composed by the tests around this, each in a third of a second.
    monkeypatch.setattr(outlook, "composed", lambda overrides: settings_of(*overrides))
    assert main(["tables", "--runs", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert not [name for name in known_tables() if name not in listed]


@pytest.mark.parametrize("name", known_tables())
def test_every_declared_row_has_its_results_and_no_other_is_there(name: str) -> None:
    table = find_table(name)
    files = set((table.folder / "results").glob("*.json"))
    for row in table.rows:
        for seed in table.seeds:
            path = result_path(table.folder, row, seed)
            if not read_results(table):
                pytest.skip(f"no results of protocol {table.protocol} yet: run {table.command}")
            assert path in files, f"run {table.command}"
            files.remove(path)
            content = json.loads(path.read_text())
            settings = {**settings_of(*declared_arguments(table, row, 0)), "seed": seed}
            run = Run.of(settings)
            assert (content["row"], content["seed"]) == (row.name, seed)
            assert (content["key"], content["scoring"]) == (run.key, run.scoring), path
            assert content["settings"] == json.loads(json.dumps(decisive(settings)))
            assert not [name for name in table.columns if name not in content["metrics"]]
    assert not files, "results of no declared row"


@pytest.mark.parametrize("name", FIRST_EDITION)
def test_results_of_the_first_edition_are_of_no_table_of_today(name: str) -> None:
    table = find_table(f"hifi_portrait/first_edition/{name}")
    results = read_results(table)
    assert len(results) == len(table.rows) * len(table.seeds)
    assert table.protocol == 1
    assert "first edition" in table.title
    today = find_table(f"hifi_portrait/{name}")
    scorings = {
        declared_run(today, row, today.seeds[0]).scoring for row in (today.rows[0], today.rows[-1])
    }
    assert not scorings.intersection(each.content["scoring"] for each in results)
    assert read_results(replace(today, folder=table.folder)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*known_tables(), *(f"hifi_portrait/first_edition/{name}" for name in FIRST_EDITION)]
)
def test_a_committed_readme_matches_its_results(name: str) -> None:
    table = find_table(name)
    results = read_results(table)
    if not results:
        assert not (table.folder / "README.md").exists(), "of results that are not there"
        pytest.skip(f"no results of protocol {table.protocol} yet: run {table.command}")
    drawn = figures(table, results)
    assert (table.folder / "README.md").read_text() == readme(table, results, drawn), (
        f"run portraitlab table {name} --figures"
    )
    kept = {path.name: path.read_bytes() for path in (table.folder / "figures").iterdir()}
    made = {
        f"{each.name}.{form}": drawing for each in drawn for form, drawing in each.forms.items()
    }
    assert kept.keys() == made.keys()
    plots = [
        name
        for name in made
        if name.endswith(".svg") and _version(made[name]) == _version(kept[name])
    ]
    assert [name for name in plots if made[name] != kept[name]] == []


def _version(plot: bytes) -> bytes:
    """The version of matplotlib that drew an SVG; others may draw other bytes."""
    return plot.split(b"<dc:title>")[1].split(b"<")[0]
