"""task=match: records and pictures of matching, by several descriptors of one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from composing import run_py
from PIL import Image

from portraitlab.app.task.match import MatchViews


@pytest.mark.slow
def test_a_sweep_writes_a_record_and_pictures_of_each_descriptor(
    cache: Path, home: Path, tmp_path: Path
) -> None:
    done = run_py(
        *("-m", "scale=smoke", "task=match", "system=ic_portrait", "canvas=views", "matching=none"),
        *("descriptors=no_motion,dift,matching_net", "budget.steps=0", "task.degrees=[10,40]"),
        *("data.score_identities=2", "metrics=none", "logger=none", "jobs=1"),
        *(f"runs={tmp_path}", f"cache={cache}"),
        home=home,
    )
    assert done.returncode == 0, done.stderr
    records = {
        record["descriptors"]: (record, path.parent)
        for path in tmp_path.rglob("metrics.json")
        if (record := json.loads(path.read_text()))
    }
    # All three are scorings of one run, whose weights are those before the first step.
    assert len({record["key"] for record, _ in records.values()}) == 1
    assert len(list(tmp_path.rglob("model.safetensors"))) == 1

    def error(descriptors: str, name: str) -> float:
        record, _ = records[descriptors]
        assert len(record["metrics"][name]["by_identity"]) == 2
        value: float = record["metrics"][name]["value"]
        return value

    assert error("NoMotion", "error_40_of_20") > 2 * error("NoMotion", "error_10_of_20")
    assert error("NoMotion", "error_40_of_20") == error("NoMotion", "error_40_of_5")
    # Features by the shipped UNet match better than no motion.
    assert error("Dift", "face_error_40_of_20") < 0.7 * error("NoMotion", "face_error_40_of_20")
    assert error("MatchingNet", "error_40_of_20") != error("Dift", "error_40_of_20")
    for _, folder in records.values():
        assert Image.open(folder / "grid.png").width > 4 * 128
        assert len(list(folder.glob("samples/*/generated.png"))) == 2
    assert "no images were generated" in done.stdout


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"degrees": []}, "degrees"),
        ({"degrees": [90]}, "degrees"),
        ({"shares": [0.0]}, "shares"),
        ({"timestep": 1000}, "timestep"),
    ],
)
def test_numbers_out_of_range_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatchViews(**{"degrees": [10], "shares": [1.0], "timestep": 261, **changed})
