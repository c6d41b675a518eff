"""Candidates of known worth, and real photos of the world as its own frozen models see them."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.world import WorldData
from portraitlab.faces.encoder.world import WorldEncoder
from portraitlab.method.select.manual import ManualReference, digest_of
from portraitlab.types import Candidates, FaceCoefficients, FaceGeometry
from portraitlab.world.pretrained import load_backbone, load_clip, load_recogniser, load_regressor

SAMPLES, REFERENCES = 40, 5


def geometry(generator: torch.Generator, *shape: int) -> FaceGeometry:
    """Heads turned at random, shape and expression at zero."""
    turned = 0.3 * torch.randn(*shape, 3, generator=generator)
    pose = torch.cat([turned, torch.full((*shape, 3), 0.4)], dim=-1)
    blank = FaceCoefficients(torch.zeros(*shape, 18), torch.zeros(*shape, 8), pose)
    return FaceGeometry(torch.zeros(*shape, 5, 2), torch.ones(shape), blank)


@pytest.fixture
def candidates() -> Candidates:
    """Forty people with one to five references a, b, c … at places drawn by chance."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(SAMPLES, REFERENCES, generator=generator) < 0.6
    mask[torch.arange(SAMPLES), torch.randint(REFERENCES, (SAMPLES,), generator=generator)] = True
    return Candidates(
        references=geometry(generator, SAMPLES, REFERENCES),
        mask=mask,
        target=geometry(generator, SAMPLES),
        quality=torch.rand(SAMPLES, REFERENCES, generator=generator),
        identities=[f"person {number}" for number in range(SAMPLES)],
        photos=[list(string.ascii_lowercase[:REFERENCES])] * SAMPLES,
        target_photos=["aim"] * SAMPLES,
    )


@pytest.fixture
def chosen_by_hand(tmp_path: Path) -> Callable[[str], ManualReference]:
    """A selection by a file of this text."""

    def make(text: str) -> ManualReference:
        file = tmp_path / "manual.yaml"
        file.write_text(text, encoding="utf-8")
        return ManualReference(str(file), digest_of(file))

    return make


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """Sixteen photos of each of the first twelve people that settings are chosen on."""
    recogniser = load_recogniser("recogniser")
    encoder = WorldEncoder(load_clip(), recogniser, load_regressor())
    data = WorldData(
        cache=str(tmp_path_factory.mktemp("cache")), identities=1, photos_per_identity=2,
        score_identities=12, score_photos=16, split="development", workers=0,
    )  # fmt: skip
    return data.score_photos(Frozen(encoder, load_backbone(), recogniser))
