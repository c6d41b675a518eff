"""Planted faults end to end, and the table of what they moved."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest
from composing import run_py

from portraitlab.app.task.sensitivity import paired
from portraitlab.tables.sensitivity import sensitivity_table


def metric(value: float | None, by_identity: dict[str, float] | None) -> dict:
    found = {"value": value, "error": 0.1, "higher_is_better": True}
    return found if by_identity is None else found | {"by_identity": by_identity}


def test_identities_are_paired_with_themselves() -> None:
    sound = {"sim_f": metric(0.5, {"a": 0.2, "b": 0.8, "c": 0.5}), "fid": metric(1.0, None)}
    faulty = {"sim_f": metric(0.4, {"a": 0.1, "b": 0.6, "d": 0.9}), "fid": metric(1.5, None)}
    found = paired(sound, faulty)
    assert found["sim_f"]["difference"] == pytest.approx(-0.15)
    assert found["sim_f"]["error"] == pytest.approx(math.sqrt(0.005) / math.sqrt(2), abs=1e-6)
    assert found["fid"] == {"difference": 0.5, "error": None}
    lost = paired({"exp": metric(0.1, {"a": 0.1})}, {"exp": metric(None, {})})
    assert lost["exp"] == {"difference": None, "error": None}


def test_the_table_shows_what_should_have_moved_in_bold() -> None:
    record = {
        "metrics": {"sim_f": metric(0.4, None), "exp": metric(0.2, None)},
        "faults": {
            "wrong_person": {
                "moves": ["sim_f"],
                "metrics": {
                    "sim_f": {"difference": -0.3, "error": 0.03},
                    "exp": {"difference": None, "error": None},
                },
            }
        },
    }
    table = sensitivity_table(record)
    assert table.rows[0] == ["no fault", "0.400 ±0.100", "0.200 ±0.100"]
    assert table.rows[1] == ["wrong person", "**-0.300 (-10.0)**", "not measured"]


@pytest.mark.slow
def test_a_trained_run_is_scored_under_every_fault(
    main_job: subprocess.CompletedProcess[str], cache: Path, home: Path, runs: Path
) -> None:
    places = (f"runs={runs}", f"cache={cache}")
    done = run_py("scale=smoke", "task=sensitivity", *places, home=home)
    assert done.returncode == 0, done.stderr
    folder = Path(main_job.stdout.split("run: ")[1].strip())
    record = json.loads((folder / "sensitivity.json").read_text())
    own = json.loads((folder / "metrics.json").read_text())
    assert record["metrics"]["sim_f"] == own["metrics"]["sim_f"]
    assert list(record["faults"]) == [
        "wrong_person", "blurred_references", "one_wrong_reference", "shuffled_tokens",
        "wrong_expression",
    ]  # fmt: skip
    for name, fault in record["faults"].items():
        assert name.replace("_", " ") in done.stdout
        assert any(change["difference"] for change in fault["metrics"].values()), name
