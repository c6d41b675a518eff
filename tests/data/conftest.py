"""The world's own classes at tiny size, and small photo sets, for the tests of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.world import WorldData
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.encoder.world import WorldEncoder
from portraitlab.world.models.clip import CONFIG, ClipEncoder
from portraitlab.world.models.recognisers import ResidualRecogniser
from portraitlab.world.models.regressor import FaceRegressor
from portraitlab.world.pretrained import load_face_model
from portraitlab.world.render import render_photo

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


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four identities with 4, 5, 6 and 7 rendered photos, every second with a caption."""
    root = tmp_path_factory.mktemp("sound")
    for identity, number in enumerate([4, 5, 6, 7]):
        folder = root / f"person {identity}"
        folder.mkdir()
        for photo in range(number):
            rendered = render_photo(identity, photo, 64)
            Image.fromarray(rendered.image).save(folder / f"{photo}.png")
            if photo % 2:
                (folder / f"{photo}.txt").write_text(rendered.caption)
    return root
