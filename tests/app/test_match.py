"""task=match: a record and pictures of matching, by the nets of trained runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from composing import run_py
from PIL import Image

from portraitlab.app.task.match import MatchViews


@pytest.mark.slow
def test_the_task_writes_a_record_and_pictures(
    main_job: subprocess.CompletedProcess[str], cache: Path, home: Path, runs: Path
) -> None:
    done = run_py(
        *("scale=smoke", "task=match", f"runs={runs}", f"cache={cache}", "task.steps=[0,4,7]"),
        *("task.degrees=[10,40]", "task.people=2", "task.descriptors.dift.noises=1"),
        home=home,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((runs / "match" / "matching.json").read_text())
    # The main job has four steps, and no net that reads two pictures.
    assert "no trained run" in record["left_out"]["7 steps"]
    for steps in (0, 4):
        assert "system=ic_portrait" in record["left_out"][f"matching_net, {steps} steps"]
    by = {
        (row["descriptors"], row["degrees"], row["share"]): row["end_point_error"]["value"]
        for row in record["rows"]
        if row["region"] == "face"
    }
    assert by["no_motion", 40, 1.0] > 2 * by["no_motion", 10, 1.0]
    # Whole pictures' features by the shipped UNet match better than no motion.
    assert by["dift", 40, 1.0] < 0.7 * by["no_motion", 40, 1.0]
    assert by["dift", 40, 0.2] > by["dift", 40, 1.0]
    assert Image.open(runs / "match" / "flows-40.png").width > 9 * 132
    assert "left out: 7 steps" in done.stdout


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": [-1]}, "steps"),
        ({"degrees": []}, "degrees"),
        ({"degrees": [90]}, "degrees"),
        ({"shares": [0.0]}, "shares"),
        ({"people": 0}, "people"),
        ({"split": "nobody"}, "split"),
    ],
)
def test_numbers_out_of_range_are_refused(changed: dict[str, Any], message: str) -> None:
    given = {"steps": [0], "degrees": [10], "shares": [1.0], "people": 1, "split": "development"}
    with pytest.raises(ValueError, match=message):
        MatchViews({}, out=".", **{**given, **changed})
