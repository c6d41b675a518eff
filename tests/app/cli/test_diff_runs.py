"""`portraitlab diff A B`: what differs in settings, origin and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from storing import PEOPLE, Store

from portraitlab.support.files import read_json, write_json

Call = Callable[..., tuple[int, str, str]]


def rows(output: str) -> dict[str, list[str]]:
    lines = [line.strip("│").split("│") for line in output.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_settings_and_paired_scores(store: Store, portraitlab: Call) -> None:
    a = store.done("fusion=refiner")
    b = store.done(
        "fusion=concat",
        "optimiser.learning_rate=0.01",
        f"cache={store.folder}",
        sim_f={"anna": 0.3, "bruno": 0.38, "carla": 0.5, "dora": 0.9},
    )
    code, output, _ = portraitlab("diff", a.key, b.folder.name, "--runs", store.folder)
    assert code == 0
    table = rows(output)
    assert table["choices.fusion"] == ["refiner", "concat"]
    assert table["optimiser.learning_rate"] == ["0.0005", "0.01"]
    assert table["fusion.layers"] == ["2", ""]
    assert not {"cache", "data.cache", "runs", "seed"} & set(table)
    # Three people in both, each about 0.1 less: decided, though each figure's own error is large.
    assert table["sim_f ↑"] == ["0.500 ±0.050", "0.520 ±0.050", "-0.107 ±0.007", "3", "A"]
    assert table["exp ↓"][2:] == ["+0.107 ±0.007", "3", "A"]
    assert "made by the same code, versions and machine" in output
    everything = portraitlab("diff", a.key, b.key, "--runs", store.folder, "--all")[1]
    assert {"cache", "data.cache"} < set(rows(everything))


def test_a_difference_within_its_error_is_undecided(store: Store, portraitlab: Call) -> None:
    a = store.done()
    b = store.done("seed=1", sim_f={"anna": 0.9, "bruno": 0.1, "carla": 0.6})
    output = portraitlab("diff", a.folder, b.folder)[1]
    assert rows(output)["sim_f ↑"][-1] == "undecided"
    assert rows(output)["seed"] == ["0", "1"]


def test_another_origin_is_shown(store: Store, portraitlab: Call) -> None:
    a, b = store.done(), store.done("seed=1")
    origin = read_json(b.folder / "origin.json")
    assert origin is not None
    origin["versions"]["torch"] = "1.0"
    write_json(b.folder / "origin.json", {**origin, "commit": "another"})
    table = rows(portraitlab("diff", a.folder, b.folder)[1])
    assert table["commit"][1] == "another"
    assert table["versions.torch"][1] == "1.0"
    assert "versions.python" not in table


def test_a_further_record_beside_the_first(store: Store, portraitlab: Call) -> None:
    run = store.done()
    again = run.folder / "scores" / "aaaaaaaa"
    store.record(run, "aaaaaaaa", again, PEOPLE | {"anna": 0.5})
    # The first record of the store's runs names no choices; the configuration has them.
    table = rows(output := portraitlab("diff", run.folder, again)[1])
    assert table["choices.select"] == ["random", "target"]
    assert table["scoring"] == [run.scoring, "aaaaaaaa"]
    assert "their scoring hashes differ" in output


def test_different_measurements_are_named(store: Store, portraitlab: Call) -> None:
    a, b = store.done(), store.done("seed=1")
    record = b.record()
    assert record is not None
    record["metrics"]["sim_f"]["method"] = "dot product"
    record["metrics"]["pose"] = record["metrics"].pop("exp")
    del record["metrics"]["sim_f"]["by_identity"]
    write_json(b.folder / "metrics.json", record)
    table = rows(output := portraitlab("diff", a.folder, b.folder)[1])
    assert "sim_f is not measured alike: cosine (A), dot product (B)" in output
    assert table["sim_f ↑"][2:] == ["+0.000", "not paired", ""]
    assert table["pose"][0] == ""
    assert table["exp"][1] == ""


def test_a_run_without_scores_has_a_reason(store: Store, portraitlab: Call) -> None:
    a, b = store.done(), store.failed("seed=1")
    code, output, _ = portraitlab("diff", a.folder, b.folder)
    assert code == 0
    assert "B has no scores: failed: the disk is full" in output


def test_names_must_be_of_one_run(store: Store, portraitlab: Call, tmp_path: Path) -> None:
    a, b = store.done(), store.done("seed=1")
    code, _, message = portraitlab("diff", a.key, "", "--runs", store.folder)
    assert code == 1
    code, _, message = portraitlab("diff", a.key, "zzz", "--runs", store.folder)
    assert code == 1
    assert "no run 'zzz': it is neither a folder nor the end of a run's name" in message
    assert str(a.folder) in message
    same = b.folder.rename(b.folder.with_name(f"of-another-{a.key}"))
    code, _, message = portraitlab("diff", a.key, a.folder, "--runs", store.folder)
    assert code == 1
    assert f"the names of 2 runs end in {a.key!r}" in message
    assert str(same) in message
    code, _, message = portraitlab("diff", a.folder, tmp_path)
    assert code == 1
    assert "has no status.json or metrics.json" in message


def test_a_damaged_file_is_named(store: Store, portraitlab: Call) -> None:
    a, b = store.done(), store.done("seed=1")
    (b.folder / "metrics.json").write_text("{")
    code, _, message = portraitlab("diff", a.folder, b.folder)
    assert code == 1
    assert f"{b.folder / 'metrics.json'} is damaged" in message


@pytest.mark.parametrize("shared", [{}, {"anna": 0.2}])
def test_few_shared_people_decide_nothing(
    store: Store, portraitlab: Call, shared: dict[str, float]
) -> None:
    a, b = store.done(), store.done("seed=1", sim_f={"zoe": 0.9, **shared})
    row = rows(portraitlab("diff", a.folder, b.folder)[1])["sim_f ↑"]
    assert row[3:] == [str(len(shared)), ""]
    assert "nan" not in row[2]
