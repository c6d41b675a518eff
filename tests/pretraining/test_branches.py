"""Branches of runs that are shipped load as the nets want them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from portraitlab.method.net.in_context import InContext
from portraitlab.pretraining import branches, ship
from portraitlab.world.pretrained import WEIGHTS, load_canvas_backbone, load_matching_net


class Prompt(nn.Module):
    """An image prompt with a buffer, which is saved with a run."""

    words = 4

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))


def test_a_run_s_branch_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    backbone = load_canvas_backbone()
    net = InContext(backbone, True, False, Prompt())
    # Change the weights as a training does, by less than the rank.
    with torch.no_grad():
        for weight in net.controlnet.parameters():
            change = torch.randn(len(weight), 4) @ torch.randn(4, weight[0].numel())
            weight += 0.01 * change.view_as(weight)
    # Write a finished run.
    run = tmp_path / "none-style-in_context-r1-s0-0123abcd"
    run.mkdir()
    state = {f"net.{name}": each for name, each in net.state_dict().items()}
    save_file(state, run / "model.safetensors")
    settings = {
        **{"budget": {"steps": 200}, "seed": 3, "trainer": {"accelerator": "cpu"}},
        "net": {"layer": 3},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    (run / "training.json").write_text(json.dumps({"training_seconds": 330.0}))
    # Ship it beside the models that it is loaded with.
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("foundation.json", "canvas.safetensors", "autoencoder.safetensors"):
        (weights / name).write_bytes((WEIGHTS / name).read_bytes())
    monkeypatch.setattr(ship, "WEIGHTS", weights)
    monkeypatch.setattr(sys, "argv", ["branches", "matching", str(run)])
    branches.main()
    listed = json.loads((weights / "foundation.json").read_text())["matching"]
    assert listed["training"]["steps"] == 200
    assert listed["training"]["minutes"] == 5.5
    assert listed["training"]["command"].endswith(f"branches matching {run.name}")
    loaded = load_matching_net(weights)
    branch = net.controlnet.state_dict()
    assert len(loaded.state_dict()) < len(branch)
    for name, each in loaded.state_dict().items():
        torch.testing.assert_close(each, branch[name], atol=2e-3, rtol=2e-3)
    InContext(backbone, True, False, Prompt(), matching=loaded)
    with pytest.raises(
        ValueError, match=r"net\.layer=9: a whole number from 0 to 4 is needed; the matching net"
    ):
        InContext(backbone, True, False, Prompt(), matching=loaded, layer=9)
