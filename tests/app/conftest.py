"""Configurations composed as run.py composes them, and one cache for all tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb
from composing import compose_config, run_py
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from wandb_server import WandbServer, serving


@pytest.fixture
def composed() -> Iterator[Callable[..., DictConfig]]:
    yield compose_config
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of renders and features for all tests, so that they are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which nobody has logged in anywhere."""
    return tmp_path_factory.mktemp("home")


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
