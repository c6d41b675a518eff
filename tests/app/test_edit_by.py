"""edit_by: a run's portraits are edited by the net of another run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from composing import compose_config, run_py
from safetensors.torch import load_file

from portraitlab.app.experiment import editing_model

DRAWN = ("system=ip_adapter", "backbone=world_canvas", "cond=none", "refs=1", "metrics=[sim_f]")
EDITOR = "system=ic_portrait canvas=views budget.steps=1"


@pytest.mark.slow
def test_portraits_are_edited_by_another_run_s_net(cache: Path, home: Path, tmp_path: Path) -> None:
    shared = ("scale=smoke", "budget.steps=0", "logger=none", f"runs={tmp_path}", f"cache={cache}")
    edited = ("edit=progressive", "edit.strengths=[0.8]", "edit.steps=2", f"edit_by='{EDITOR}'")

    refused = run_py(*DRAWN, *edited, *shared, home=home)
    assert refused.returncode == 1
    assert "train it first with python run.py system=ic_portrait canvas=views" in refused.stderr
    assert not list(tmp_path.rglob("metrics.json"))

    own = [setting for setting in shared if not setting.startswith("budget")]
    trained = run_py(*EDITOR.split(), "metrics=none", *own, home=home)
    assert trained.returncode == 0, trained.stderr
    done = run_py(*DRAWN, *edited, *shared, home=home)
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "ip_adapter").glob("*/log.txt")
    found = re.search(r"edited (\d+) of the \d+ faces of the portraits", log.read_text())
    assert found is not None
    assert int(found[1]) > 0

    # The editing model has the weights of its run.
    (trained_run,) = (tmp_path / "ic_portrait").glob("none-*")
    config = compose_config(*DRAWN, *edited, *shared)
    editor = editing_model(config, torch.device("cpu")).trained_state_dict()
    weights = load_file(trained_run / "model.safetensors")
    assert weights.keys() == editor.keys()
    assert all(torch.equal(weights[name], value) for name, value in editor.items())
