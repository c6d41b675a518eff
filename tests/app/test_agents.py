"""`portraitlab agents`: a sweep of W&B's own, whose jobs are our configurations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from composing import compose_config
from omegaconf import DictConfig, OmegaConf
from placed import ROOT
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from portraitlab.app.cli.main import main
from portraitlab.tables.dashboard.agents import agents_sweep


def test_an_agents_jobs_are_configurations(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    path = tmp_path / "sweep.yaml"
    swept = ("fusion=concat,none", "refs=1,2", "optimiser.learning_rate=1e-3,0.01", "scale=smoke")
    assert main(["agents", *swept, "--file", str(path)]) == 0
    sweep: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert sweep["metric"] == {"name": "score/sim_f", "goal": "maximize"}
    assert sweep["command"] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    assert (ROOT / sweep["program"]).is_file()
    choices = [each.get("values", [each.get("value")]) for each in sweep["parameters"].values()]
    seen = set()
    for point in product(*choices):
        given = dict(zip(sweep["parameters"], point, strict=True))
        job = {"args": {name: {"value": value} for name, value in given.items()}}
        config = compose_config(*create_sweep_command_args(job)["args_no_hyphens"])
        assert config.choices.scale == "smoke"
        assert config.optimiser.learning_rate == given["optimiser.learning_rate"]
        assert config.refs == given["refs"]
        seen.add((config.choices.fusion, config.refs, config.optimiser.learning_rate))
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("overrides", "method", "message"),
    [
        (["fusion=concat"], "grid", "nothing is swept"),
        ([], "grid", "no override: nothing is swept"),
        (["fusion"], "grid", "'fusion': not an override"),
        (["fusion=concat,"], "grid", "'fusion=concat,': not an override"),
        (["refs=range(1,4)"], "grid", r"'refs=range\(1,4\)': not an override"),
        (["refs=1,2"], "best", "method=best: choose one of grid"),
    ],
)
def test_what_an_agent_cannot_hand_on_is_refused(
    overrides: list[str], method: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        agents_sweep(overrides, method)
