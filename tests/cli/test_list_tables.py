"""`portraitlab tables`: what a paper's tables lack, and how long that will take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from storing import Store

from portraitlab.runs.files import write_json
from portraitlab.runs.run import Run
from portraitlab.tables.composing import declared_run
from portraitlab.tables.outlook import outlook
from portraitlab.tables.paper_table import EXPERIMENTS, PaperTable, known_tables

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def table(tmp_path: Path) -> PaperTable:
    """The table of references, which one training for each seed gives, without its results."""
    declared = (EXPERIMENTS / "hifi_portrait" / "table4" / "table.yaml").read_text()
    folder = tmp_path / "hifi_portrait" / "table4"
    folder.mkdir(parents=True)
    (folder / "table.yaml").write_text(declared)
    return PaperTable.read(folder)


def timed(store: Store, *overrides: str, seconds: float, scoring: float) -> Run:
    """A run that is done, with the times it took."""
    run = store.done(*overrides)
    run.note(training_seconds=seconds)
    record = run.record()
    assert record is not None
    write_json(run.folder / "metrics.json", {**record, "scoring_seconds": scoring})
    return run


def test_every_table_is_listed(store: Store, portraitlab: Call) -> None:
    code, output, _ = portraitlab("tables", "--runs", store.folder)
    assert code == 0
    for name in known_tables():
        assert name in output


def test_a_training_is_counted_once_however_many_rows_score_it(
    table: PaperTable, store: Store
) -> None:
    left = outlook(table, store.folder)
    assert (left.done, left.total, left.trainings, left.scorings) == (0, 18, 3, 18)
    assert left.seconds is None  # nothing was timed here


def test_what_was_timed_on_this_machine_tells_how_long_the_rest_takes(
    table: PaperTable, store: Store
) -> None:
    timed(store, "seed=7", seconds=100.0, scoring=20.0)  # 1,000 steps
    timed(store, "seed=8", seconds=300.0, scoring=40.0)
    left = outlook(table, store.folder)
    assert left.seconds == pytest.approx(3 * 8000 * 0.2 + 18 * 30.0)


def test_times_of_other_machines_and_scales_do_not_count(table: PaperTable, store: Store) -> None:
    run = timed(store, "seed=7", seconds=100.0, scoring=20.0)
    origin = json.loads((run.folder / "origin.json").read_text())
    origin["machine"]["processor"] = "another"
    write_json(run.folder / "origin.json", origin)
    timed(store, "scale=smoke", seconds=1.0, scoring=1.0)
    assert outlook(table, store.folder).seconds is None


def test_what_is_trained_is_only_to_be_scored(table: PaperTable, store: Store) -> None:
    overrides = [f"{name}={value}" for name, value in table.overrides.items()]
    timed(store, *overrides, "seed=1", "score_refs=4", seconds=80.0, scoring=10.0)
    left = outlook(table, store.folder)
    assert (left.trainings, left.scorings) == (2, 17)
    assert left.seconds == pytest.approx(2 * 8000 * 0.01 + 17 * 10.0)


@pytest.mark.parametrize("name", known_tables())
def test_a_seed_is_but_a_number_in_a_rows_settings(name: str, store: Store) -> None:
    table = PaperTable.read(EXPERIMENTS / name)
    row = table.rows[-1]
    overrides = [f"{key}={value}" for key, value in table.overrides.items()]
    settings = store.settings(*overrides, *row.arguments, "seed=0")
    for seed in (0, 5):
        run, declared = Run.of({**settings, "seed": seed}), declared_run(table, row, seed)
        assert (run.key, run.scoring) == (declared.key, declared.scoring)
