"""Every system trains, saves what it trained and nothing else, and is loaded again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from placed import choices
from safetensors.torch import load_file

from portraitlab.app.experiment import Bench
from portraitlab.app.task.train import Train
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("system", [name for group, name in choices() if group == "system"])
def test_a_system_trains_all_that_it_saves_and_is_loaded_again(
    composed: Callable[..., DictConfig], cache: Path, tmp_path: Path, system: str
) -> None:
    # An embedding of pixels moves a step later: it waits for its own zero convolution too.
    steps = 3 if system == "ic_portrait" else 2
    config = composed(
        *(f"system={system}", "scale=smoke", f"budget.steps={steps}", "metrics=none"),
        "logger=none",
        *(f"runs={tmp_path}", f"cache={cache}"),
    )
    assert Train()(config)["system"] == system
    run, bench = Run.of(plain(config)), Bench.of(config)
    model = bench.parts.model
    untrained = {name: value.clone() for name, value in model.trained_state_dict().items()}
    trained = load_file(run.weights)
    assert trained.keys() == untrained.keys()
    assert not [name for name in trained if torch.equal(trained[name], untrained[name])]
    bench.load(run)
    loaded = model.trained_state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in trained.items())
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    assert not frozen & trained.keys()
