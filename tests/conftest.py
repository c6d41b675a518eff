"""What all tests take their tiny models from (tests/tiny.py)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import make_backbone, make_batch, make_recogniser, make_regressor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.types import Batch

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Share the cores among pytest's workers, and what they start.

    With threads for all cores each, they would wait for one another.
    """
    if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


@pytest.fixture
def tiny_backbone() -> Callable[..., Backbone]:
    return make_backbone


@pytest.fixture
def tiny_recogniser() -> Callable[..., torch.nn.Module]:
    return make_recogniser


@pytest.fixture
def tiny_regressor() -> Callable[..., torch.nn.Module]:
    return make_regressor


@pytest.fixture
def tiny_batch() -> Callable[..., Batch]:
    return make_batch
