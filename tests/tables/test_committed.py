"""The papers' tables that are committed: declarations, results and READMEs agree."""

from __future__ import annotations

import json

import pytest

from portraitlab.runs.key import decisive
from portraitlab.runs.run import Run
from portraitlab.tables.composing import composed, declared_arguments, declared_run
from portraitlab.tables.figures.drawing import figures
from portraitlab.tables.paper_readme import readme
from portraitlab.tables.paper_table import find_table, known_tables
from portraitlab.tables.results import read_results, result_path


@pytest.mark.parametrize("name", known_tables())
def test_every_declared_row_is_a_run_of_its_own(name: str) -> None:
    table = find_table(name)
    runs = [declared_run(table, row, table.seeds[0]) for row in table.rows]
    assert len({(run.key, run.scoring) for run in runs}) == len(table.rows)


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
            settings = composed(declared_arguments(table, row, seed))
            run = Run.of(settings)
            assert (content["row"], content["seed"]) == (row.name, seed)
            assert (content["key"], content["scoring"]) == (run.key, run.scoring), path
            assert content["settings"] == json.loads(json.dumps(decisive(settings)))
            assert not [name for name in table.columns if name not in content["metrics"]]
    assert not files, "results of no declared row"


@pytest.mark.slow
@pytest.mark.parametrize("name", known_tables())
def test_a_committed_readme_is_what_its_results_say(name: str) -> None:
    table = find_table(name)
    results = read_results(table)
    drawn = figures(table, results)
    assert (table.folder / "README.md").read_text() == readme(table, results, drawn), (
        f"run portraitlab table {name} --figures"
    )
    kept = {path.name for path in (table.folder / "figures").iterdir()}
    assert kept == {f"{each.name}.{form}" for each in drawn for form in each.forms}
