"""`portraitlab tables`: what a paper's tables lack, and how long that will take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from composing import settings_of
from storing import Store

from portraitlab.runs.key import PROTOCOL
from portraitlab.runs.origin import origin
from portraitlab.runs.run import Run
from portraitlab.support.files import write_json
from portraitlab.support.paths import EXPERIMENTS
from portraitlab.tables.composing import declared_arguments, declared_run
from portraitlab.tables.outlook import Outlook, outlooks
from portraitlab.tables.paper_table import PaperTable, known_tables
from portraitlab.tables.results import result_path


@pytest.fixture(autouse=True)
def _composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose each row of a table in one test alone."""
    monkeypatch.setattr(
        "portraitlab.tables.outlook.composed", lambda overrides: settings_of(*overrides)
    )


@pytest.fixture
def table(tmp_path: Path) -> PaperTable:
    """The table of references, which one training for each seed gives, without its results."""
    declared = (EXPERIMENTS / "hifi_portrait" / "table4" / "table.yaml").read_text()
    folder = tmp_path / "hifi_portrait" / "table4"
    folder.mkdir(parents=True)
    (folder / "table.yaml").write_text(declared)
    return PaperTable.read(folder)


def outlook(table: PaperTable, store: Store) -> Outlook:
    """Read the outlook of one table."""
    (seen,) = outlooks([table], store.folder)
    return seen


def timed(store: Store, *overrides: str, seconds: float, scoring: float) -> Run:
    """A run that is done, with the times it took."""
    run = store.done(*overrides)
    run.note(training_seconds=seconds)
    record = run.record()
    assert record is not None
    made = {"scoring_seconds": scoring, "origin": origin()}
    write_json(run.folder / "metrics.json", {**record, **made})
    return run


def test_a_training_is_counted_once_however_many_rows_score_it(
    table: PaperTable, store: Store
) -> None:
    left = outlook(table, store)
    assert (left.done, left.total, left.trainings, left.scorings) == (0, 18, 3, 18)
    assert left.seconds is None  # nothing was timed here


def test_times_on_this_machine_give_the_time_left(table: PaperTable, store: Store) -> None:
    timed(store, "seed=7", seconds=100.0, scoring=20.0)  # 1,000 steps
    timed(store, "seed=8", seconds=300.0, scoring=40.0)
    left = outlook(table, store)
    assert left.seconds == pytest.approx(3 * 1000 * 0.2 + 18 * 30.0)


def test_times_of_other_machines_and_scales_do_not_count(table: PaperTable, store: Store) -> None:
    run = timed(store, "seed=7", seconds=100.0, scoring=20.0)
    machine = {"processor": "another", "cores": 2, "gpus": []}
    for path in (run.folder / "origin.json", run.folder / "metrics.json"):
        content = json.loads(path.read_text())
        content.get("origin", content)["machine"] = machine
        write_json(path, content)
    timed(store, "scale=smoke", seconds=1.0, scoring=1.0)
    assert outlook(table, store).seconds is None


def test_trained_rows_only_need_scoring(table: PaperTable, store: Store) -> None:
    overrides = [f"{name}={value}" for name, value in table.overrides.items()]
    timed(store, *overrides, "seed=1", "score_refs=4", seconds=80.0, scoring=10.0)
    left = outlook(table, store)
    assert (left.trainings, left.scorings) == (2, 17)
    assert left.seconds == pytest.approx(2 * 80.0 + 17 * 10.0)


def test_the_steps_that_a_run_has_made_are_not_left(table: PaperTable, store: Store) -> None:
    timed(store, "seed=7", seconds=100.0, scoring=20.0)
    before = outlook(table, store).seconds
    overrides = [f"{name}={value}" for name, value in table.overrides.items()]
    store.failed(*overrides, "seed=1", "score_refs=4")  # at step 240
    left = outlook(table, store)
    assert (left.trainings, left.scorings) == (3, 18)
    assert before is not None
    assert left.seconds == pytest.approx(before - 240 * 0.1)


def test_scorings_of_one_training_are_all_timed(table: PaperTable, store: Store) -> None:
    run = timed(store, "seed=7", seconds=100.0, scoring=20.0)
    again = run.folder / "scores" / "0123abcd"
    store.record(run, "0123abcd", again, {"anna": 0.5})
    record = json.loads((again / "metrics.json").read_text())
    write_json(again / "metrics.json", {**record, "scoring_seconds": 30.0, "origin": origin()})
    assert outlook(table, store).seconds == pytest.approx(3 * 1000 * 0.1 + 18 * 25.0)


def test_untimed_rows_use_the_times_of_committed_results(table: PaperTable, store: Store) -> None:
    machine = {"processor": "a far one", "cores": 7, "gpus": []}
    for number in range(3):
        content = {"row": "one", "seed": number, "key": str(number), "scoring": "s", "steps": 1000}
        content |= {"scale": "mini", "settings": {}, "metrics": {}, "bounds": {}, "images": 1}
        content |= {"protocol": PROTOCOL}
        content |= {"faceless": 0, "trained_by": {**origin(), "machine": machine}}
        content |= {"training_seconds": 200.0, "scoring_seconds": 10.0}
        write_json(table.folder / "results" / f"one-{number}.json", content)
    left = outlook(table, store)
    assert left.timed == "a far one, 7 cores"
    assert left.seconds == pytest.approx(3 * 1000 * 0.2 + 18 * 10.0)
    timed(store, "seed=7", seconds=100.0, scoring=20.0)
    assert outlook(table, store).timed == "here"


def test_results_of_another_table_are_not_counted_as_left(tmp_path: Path, store: Store) -> None:
    table4, table5 = (
        replace(PaperTable.read(EXPERIMENTS / "hifi_portrait" / name), folder=tmp_path / name)
        for name in ("table4", "table5")
    )
    alone = outlook(table5, store)
    shared = table4.rows[3]  # N = 4, which is table 5's full row
    content = {"row": shared.name, "scale": "mini", "steps": 8000, "settings": {}, "metrics": {}}
    content |= {"bounds": {}, "images": 1, "faceless": 0, "protocol": PROTOCOL}
    for seed in table4.seeds:
        run = declared_run(table4, shared, seed)
        own = {"seed": seed, "key": run.key, "scoring": run.scoring, "origin": origin()}
        write_json(result_path(table4.folder, shared, seed), content | own)
    _, beside = outlooks([table4, table5], store.folder)
    assert (beside.done, beside.scorings) == (0, alone.scorings - len(table4.seeds))


@pytest.mark.parametrize("name", known_tables())
def test_a_seed_is_but_a_number_in_a_rows_settings(name: str) -> None:
    table = PaperTable.read(EXPERIMENTS / name)
    row = table.rows[-1]
    settings = settings_of(*declared_arguments(table, row, 0))
    run, declared = Run.of({**settings, "seed": 5}), declared_run(table, row, 5)
    assert (run.key, run.scoring) == (declared.key, declared.scoring)
