"""Tiny models and worlds, composed configurations and a cache, for the tests of all floors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from composing import compose_config
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tiny import make_backbone, make_batch, make_recogniser, make_regressor

from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.world import WorldData
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.encoder.world import WorldEncoder
from portraitlab.types import Batch
from portraitlab.world.models.clip import CONFIG, ClipEncoder
from portraitlab.world.models.recognisers import ResidualRecogniser
from portraitlab.world.models.regressor import FaceRegressor
from portraitlab.world.pretrained import load_face_model


def pytest_configure() -> None:
    """Share the cores among pytest's workers, and what they start.

    With threads for all cores each, they would wait for one another.
    """
    if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start files with slow tests first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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


@pytest.fixture
def composed() -> Iterator[Callable[..., DictConfig]]:
    yield compose_config
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of renders and features for all tests and workers, so that they are made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which nobody has logged in anywhere."""
    return tmp_path_factory.mktemp("home")


_TRUNK = {
    "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic",
    "num_channels": 3,
}  # fmt: skip


def _clip() -> ClipEncoder:
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    small["num_attention_heads"] = 2
    vision = CONFIG["vision_config"] | small | {"patch_size": 16}
    text = CONFIG["text_config"] | small
    return ClipEncoder({"projection_dim": 4, "vision_config": vision, "text_config": text})


@pytest.fixture
def clip() -> ClipEncoder:
    torch.manual_seed(0)
    return _clip()


@pytest.fixture
def make_encoder() -> Callable[..., WorldEncoder]:
    """An untrained encoder that finds a face in the middle of every picture."""

    def make(seed: int = 0, minimum_score: float = 0.5) -> WorldEncoder:
        torch.manual_seed(seed)
        regressor = FaceRegressor(load_face_model(), _TRUNK)
        last = regressor.head[-1]
        torch.nn.init.normal_(last.weight, std=0.01)
        torch.nn.init.zeros_(last.bias)
        last.bias.data[-1] = 3.0
        return WorldEncoder(_clip(), ResidualRecogniser(_TRUNK), regressor, minimum_score)

    return make


@pytest.fixture
def frozen(
    tiny_backbone: Callable[..., Backbone], make_encoder: Callable[..., WorldEncoder]
) -> Frozen:
    encoder = make_encoder()
    return Frozen(encoder, tiny_backbone(), encoder.recogniser)


@pytest.fixture
def world_data(tmp_path: Path) -> Callable[..., WorldData]:
    """Make a small world in a fresh cache, with settings by name."""

    def make(**settings: object) -> WorldData:
        small = {
            "cache": str(tmp_path / "cache"), "identities": 3, "photos_per_identity": 6,
            "score_identities": 2, "score_photos": 7, "workers": 0, "targets": 2, "judges": 2,
        }  # fmt: skip
        return WorldData(**(small | settings))  # type: ignore[arg-type]

    return make


@pytest.fixture
def photos(world_data: Callable[..., WorldData], frozen: Frozen) -> PhotoSet:
    """18 photos of three training identities."""
    return world_data().train_photos(frozen)
