"""`python run.py table=...`: real trainings at smoke scale, collected into a table."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from composing import run_py
from placed import ROOT

from portraitlab.support.files import read_json

pytestmark = pytest.mark.slow

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def call(cache: Path, home: Path, folder: Path) -> Call:
    """`run.py table=...` at smoke scale, with its runs in one folder."""
    small = ("scale=smoke", "budget=default", "metrics=[sim_f,clip_f]", "logger=none")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        places = (f"runs={folder}", f"cache={cache}")
        return run_py(*arguments, *small, "jobs=1", *places, home=home)

    return call


@pytest.fixture(scope="module")
def first(call: Call) -> subprocess.CompletedProcess[str]:
    return call("table=hifi_portrait/table4", "score_refs=1,3", "seed=0")


def table_folder(ended: subprocess.CompletedProcess[str]) -> Path:
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("table: ")]
    return Path(line.removeprefix("table: ")).parent


def trainings(folder: Path) -> dict[str, float]:
    """Return the time at which each training ended, by its run's folder."""
    found = (folder / "hifi_portrait").glob("*/training.json")
    return {path.parent.name: path.stat().st_mtime for path in found}


def test_rows_of_one_training_are_trained_once_and_scored_each(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert first.returncode == 0, first.stderr
    assert len(trainings(folder)) == 1
    results = {
        path.stem: json.loads(path.read_text())
        for path in (table_folder(first) / "results").glob("*.json")
    }
    assert results.keys() == {"1-0", "3-0"}
    assert results["1-0"]["key"] == results["3-0"]["key"]
    assert results["1-0"]["score_refs"] == 1
    assert results["1-0"]["metrics"]["sim_f"] != results["3-0"]["metrics"]["sim_f"]
    assert results["3-0"]["settings"]["score_refs"] == 3
    assert results["3-0"]["trained_by"]["machine"] == results["3-0"]["origin"]["machine"]


def test_the_table_is_printed_beside_the_papers(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert "references" in first.stdout
    for printed in ("61.9", "64.6"):
        assert printed in first.stdout
    assert "Kendall's tau" in first.stdout
    readme = (table_folder(first) / "README.md").read_text()
    assert "python run.py table=hifi_portrait/table4 score_refs=1,3 seed=0 scale=smoke" in readme


def test_figures_are_drawn_from_results_alone(
    first: subprocess.CompletedProcess[str],
) -> None:
    folder = table_folder(first)
    few, more = (read_json(folder / "results" / f"{refs}-0.json") or {} for refs in (1, 3))
    assert more["curve"]["step"] == sorted(more["curve"]["step"])
    assert "train/loss" in more["curve"]
    # The target, then as many references as the row takes.
    assert (len(few["shown"]["given"]), len(more["shown"]["given"])) == (2, 4)
    assert few["shown"]["given"] == more["shown"]["given"][:2]
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names > {"bars.png", "bars.svg", "over-number.png", "curves.png", "sheet.png"}
    readme = (folder / "README.md").read_text()
    assert all(f"(figures/{name})" in readme for name in names if name.endswith("png"))


def test_other_settings_give_no_result_of_the_table(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert table_folder(first).is_relative_to(folder)
    assert "scale: smoke" in (table_folder(first) / "table.yaml").read_text()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "experiments"], cwd=ROOT, capture_output=True, text=True
    )
    assert "smoke" not in changed.stdout


def test_a_second_call_runs_only_missing_rows(
    first: subprocess.CompletedProcess[str], call: Call, folder: Path
) -> None:
    before = trainings(folder)
    again = call("table=hifi_portrait/table4", "score_refs=1,3", "seed=0")
    assert again.returncode == 0, again.stderr
    for text in ("Training", "Drawing", "[1/2]"):
        assert text not in again.stdout
    assert "61.9" in again.stdout
    wider = call("table=hifi_portrait/table4", "score_refs=1,2,3", "seed=0")
    assert wider.returncode == 0, wider.stderr
    assert "Drawing" in wider.stdout
    assert trainings(folder) == before
    assert read_json(table_folder(wider) / "results" / "2-0.json") is not None


def test_settings_of_no_row_are_refused_before_the_start(call: Call, folder: Path) -> None:
    ended = call("table=hifi_portrait/table4", "score_refs=7")
    assert ended.returncode == 1
    assert "score_refs=7: no row of table=hifi_portrait/table4 has it" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_failed_row_has_its_reason(call: Call) -> None:
    ended = call(
        "table=hifi_portrait/table4", "score_refs=6", "seed=0", "scale.world.score_photos=6"
    )
    assert ended.returncode == 1
    assert "6, seed 0: failed: score_refs=6 is too many" in ended.stdout.replace("\n", " ")
    assert "missing" in ended.stdout
