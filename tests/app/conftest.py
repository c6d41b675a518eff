"""The main job, run once, and a stand-in of W&B's server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from composing import run_py
from wandb_server import WandbServer, serving


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that the main job and the sweep share."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def main_job(cache: Path, home: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    """`python run.py`, at smoke scale."""
    return run_py("scale=smoke", f"runs={runs}", f"cache={cache}", home=home)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """W&B's stand-in, where this process is logged in."""
    with serving() as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # it reads the environment once
        yield server
        wandb.teardown()
