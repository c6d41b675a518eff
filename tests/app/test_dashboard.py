"""`portraitlab dashboard`: what it writes, and what a stand-in of W&B's server gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from placed import ROOT
from recorded import LINES, write_record
from wandb_server import WandbServer

from portraitlab.app.cli.main import main
from portraitlab.runs.run import Run
from portraitlab.runs.sweep import Sweep, SweepJob


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of two rows and two seeds, of which one job is done."""
    jobs = []
    for number, (fusion, rate, seed) in enumerate(product(["a", "b"], ["0.1", "0.2"], "01")):
        run = Run(tmp_path / "runs" / f"run{number}", f"key{number}", "scoring")
        names = {"fusion": fusion, "optimiser.learning_rate": rate, "seed": seed, "scale": "smoke"}
        jobs.append(SweepJob(names, run))
    done = write_record(jobs[0].run.folder, scoring="scoring")
    assert done["metrics"]
    jobs[0].run.losses.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    folder = tmp_path / "sweeps" / "fusion-seed-1234"
    Sweep(folder, jobs).write()
    return folder


def command(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`portraitlab ...` as a user types it who has no W&B key but what `variables` give."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "portraitlab.app.cli.main", *arguments],
        cwd=ROOT,
        env={**environment, "HOME": str(home), "NETRC": str(home / "netrc"), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def panels(spec: dict[str, Any]) -> dict[str, list[Any]]:
    sections = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def test_a_dashboard_shows_rows_over_seeds(sweep: Path, tmp_path: Path) -> None:
    ended = command("dashboard", str(sweep), home=tmp_path / "home")
    assert ended.returncode == 0, ended.stderr
    assert f"dashboard: {sweep / 'dashboard.json'}, not applied" in ended.stdout
    assert "wandb login" in ended.stdout
    content = json.loads((sweep / "dashboard.json").read_text())
    assert (content["name"], content["project"]) == ("fusion-seed-1234", "portraitlab")
    shown = panels(content["spec"])
    assert list(shown) == ["results", "curves", "settings", "pictures"]
    assert [panel["config"]["metrics"] for panel in shown["results"]] == [
        *(["score/sim_f"], ["score/fid"], ["score/exp"])
    ]
    (curve,) = shown["curves"]
    assert curve["config"]["xAxis"] == "train/step"
    for panel in [*shown["results"], curve]:
        assert (panel["config"]["groupAgg"], panel["config"]["groupArea"]) == ("mean", "minmax")
    axes = [column["accessor"] for column in shown["settings"][0]["config"]["columns"]]
    assert axes == [
        *("config:fusion.value", "config:config.value.optimiser.learning_rate"),
        *("config:seed.value", "summary:score/sim_f"),
    ]
    assert shown["settings"][1]["config"]["targetKey"] == "score/sim_f"
    assert shown["pictures"][0]["config"]["mediaKeys"] == ["grid"]
    assert "portraits" in json.dumps(shown["pictures"][1])
    (runs,) = content["spec"]["section"]["runSets"]
    (chosen,) = runs["filters"]["filters"]
    assert chosen["key"] == {"section": "run", "name": "name"}
    assert chosen["value"] == [f"key{number}" for number in range(8)]
    assert [key["name"] for key in runs["grouping"]] == [
        *("fusion.value", "config.value.optimiser.learning_rate")
    ]


def test_a_dashboard_is_applied_and_then_changed_in_place(
    server: WandbServer, sweep: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        ended = command("dashboard", str(sweep), home=tmp_path / "home", **server.variables)
        assert ended.returncode == 0, ended.stderr
        assert f"dashboard: {server.url}/me/portraitlab?nw=" in ended.stdout
    (view,) = server.views.values()
    assert (view["entityName"], view["displayName"]) == ("me", "fusion-seed-1234")
    written = json.loads((sweep / "dashboard.json").read_text())["spec"]
    assert panels(json.loads(view["spec"])).keys() == panels(written).keys()


def test_a_dashboard_that_wandb_does_not_take_is_written_all_the_same(
    sweep: Path, tmp_path: Path
) -> None:
    away = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    ended = command("dashboard", str(sweep), home=tmp_path / "home", **away)
    assert ended.returncode == 1
    assert "W&B did not take it" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (sweep / "dashboard.json").is_file()


def test_a_dashboard_of_no_sweep_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", str(tmp_path)]) == 1
    assert f"{tmp_path} has no sweep.json" in capsys.readouterr().err
