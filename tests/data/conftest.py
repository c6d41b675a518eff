"""Tiny encoders and photo sets for the tests of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from portraitlab.backbone.diffusion import Backbone
from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.world import WorldData
from portraitlab.encoder.world import WorldEncoder
from portraitlab.types import FaceCoefficients, FaceGeometry

REAL = Path(__file__).parents[2].parent / "shared" / "real"


class TinyClip(nn.Module):
    """Patch tokens by one strided convolution."""

    local_dim, local_length = 6, 16

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, self.local_dim, 16, stride=16)

    def patch_tokens(self, images: Tensor) -> Tensor:
        return self.patches(images).flatten(2).transpose(1, 2)


class TinyRecogniser(nn.Module):
    """A linear embedding of the crop reduced to 8 by 8 pixels."""

    global_dim, crop_size = 5, 48

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, self.global_dim)

    def forward(self, crops: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(crops, 8).flatten(1)
        return nn.functional.normalize(self.embed(small), dim=-1)


class TinyRegressor(nn.Module):
    """Keypoints near the world's mean face; a picture without contrast has no face."""

    def __init__(self) -> None:
        super().__init__()
        self.fit = nn.Linear(3, 10 + 4 + 3 + 6)
        nn.init.normal_(self.fit.weight, std=0.01)
        nn.init.zeros_(self.fit.bias)
        self.mean: Tensor
        self.register_buffer(
            "mean",
            torch.tensor([[0.4, 0.4], [0.6, 0.4], [0.51, 0.51], [0.43, 0.6], [0.59, 0.6]]),
        )

    def forward(self, images: Tensor) -> FaceGeometry:
        raw = self.fit(images.mean(dim=(2, 3)))
        return FaceGeometry(
            keypoints=self.mean + raw[:, :10].reshape(-1, 5, 2),
            score=(images.std(dim=(1, 2, 3)) > 0.05).float(),
            coefficients=FaceCoefficients(raw[:, 10:14], raw[:, 14:17], raw[:, 17:]),
        )


def make_encoder(seed: int = 0) -> WorldEncoder:
    torch.manual_seed(seed)
    return WorldEncoder(TinyClip(), TinyRecogniser(), TinyRegressor())


@pytest.fixture
def frozen(tiny_backbone: Callable[..., Backbone]) -> Frozen:
    encoder = make_encoder()
    return Frozen(encoder, tiny_backbone(), TinyRecogniser().requires_grad_(False))


@pytest.fixture
def world_data(tmp_path: Path) -> Callable[..., WorldData]:
    """A small world in a fresh cache; settings may be given by name."""

    def make(**settings: object) -> WorldData:
        small = {
            "cache": str(tmp_path / "cache"), "identities": 3, "photos_per_identity": 5,
            "score_identities": 2, "score_photos": 7, "workers": 0, "targets": 2, "judges": 2,
        }  # fmt: skip
        return WorldData(**(small | settings))  # type: ignore[arg-type]

    return make


@pytest.fixture
def photos(world_data: Callable[..., WorldData], frozen: Frozen) -> PhotoSet:
    return world_data().train_photos(frozen)
