"""task=activation: where one identity acts in a picture with two faces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from composing import run_py
from PIL import Image

from portraitlab.app.task.activation import face_shares


def test_a_map_without_a_preference_gives_each_face_the_share_of_its_area() -> None:
    boxes = torch.tensor([[[0.1, 0.25, 0.2, 0.5], [0.6, 0.25, 0.7, 0.5]]]).expand(2, 2, 4)
    found = face_shares(torch.ones(2, 16, 32), boxes)
    for share in found.values():
        torch.testing.assert_close(share, torch.full((2,), 0.1 * 0.25))


def test_a_map_in_one_face_alone_gives_it_all() -> None:
    maps = torch.zeros(1, 16, 32)
    maps[:, 4:8, 2:6] = 3.0
    boxes = torch.tensor([[[2 / 32, 4 / 16, 6 / 32, 8 / 16], [18 / 32, 4 / 16, 22 / 32, 8 / 16]]])
    found = face_shares(maps, boxes)
    # A quarter of a cell within the edge, a point reads 0.75: of 8 points along each side, 2.
    assert float(found["left"]) == pytest.approx(((6 + 2 * 0.75) / 8) ** 2, abs=1e-3)
    assert float(found["right"]) == 0


@pytest.mark.slow
def test_the_task_writes_a_record_and_a_picture(cache: Path, home: Path, tmp_path: Path) -> None:
    chosen = ("scale=smoke", "canvas=bodies", "system=fpga", "metrics=none", "logger=none")
    places = (f"runs={tmp_path}", f"cache={cache}")
    missing = run_py(*chosen, *places, "task=activation", home=home)
    assert missing.returncode == 1
    assert "no trained run" in missing.stderr + missing.stdout
    trained = run_py(*chosen, *places, home=home)
    assert trained.returncode == 0, trained.stderr
    done = run_py(*chosen, *places, "task=activation", home=home)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("activation.json")
    record = json.loads(path.read_text())
    assert 0 < record["area"]["value"] < 0.2
    for side in ("left", "right"):
        assert 0 < record[side]["value"] < 0.5
    assert Image.open(path.with_suffix(".png")).width > 3 * 128
    groups = run_py(*chosen, *places, "task=activation", "data.score_framing=group", home=home)
    assert groups.returncode == 1
    assert "data.score_framing=half" in groups.stderr + groups.stdout
