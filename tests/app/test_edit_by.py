"""edit_by: a run's portraits are edited by the net of another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from composing import run_py

DRAWN = ("system=ip_adapter", "backbone=world_canvas", "cond=none", "refs=1", "metrics=[sim_f]")
EDITOR = "system=ic_portrait canvas=views budget.steps=0"


@pytest.mark.slow
def test_portraits_are_edited_by_another_run_s_net(cache: Path, home: Path, tmp_path: Path) -> None:
    shared = ("scale=smoke", "budget.steps=0", "logger=none", f"runs={tmp_path}", f"cache={cache}")
    edited = ("edit=progressive", "edit.strengths=[0.8]", "edit.steps=2", f"edit_by='{EDITOR}'")

    refused = run_py(*DRAWN, *edited, *shared, home=home)
    assert refused.returncode == 1
    assert "train it first with python run.py system=ic_portrait canvas=views" in refused.stderr
    assert not list(tmp_path.rglob("metrics.json"))

    trained = run_py(*EDITOR.split(), "metrics=none", *shared, home=home)
    assert trained.returncode == 0, trained.stderr
    for arguments in (DRAWN, (*DRAWN, *edited)):
        done = run_py(*arguments, *shared, home=home)
        assert done.returncode == 0, done.stderr

    # The drawing run has two scorings; the edited portraits are others.
    (run,) = {path.parents[0] for path in (tmp_path / "ip_adapter").glob("*/model.safetensors")}
    plain, changed = sorted(run.rglob("metrics.json"), key=lambda path: len(path.parts))
    first, second = (json.loads(path.read_text()) for path in (plain, changed))
    assert first["key"] == second["key"]
    assert first["metrics"]["sim_f"]["value"] != second["metrics"]["sim_f"]["value"]
    log = (run / "log.txt").read_text()
    assert "faces of the portraits" in log
