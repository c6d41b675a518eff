"""Configurations composed as run.py composes them, and one cache for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from composing import compose_config
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@pytest.fixture
def composed() -> Iterator[Callable[..., DictConfig]]:
    yield compose_config
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of renders and features for all tests, so that they are made once."""
    return tmp_path_factory.mktemp("cache")
