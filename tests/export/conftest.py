"""Exports of the miniature's and of tiny published models, and photos to draw with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from portraitlab.cli.main import main
from portraitlab.export.folder import write_export
from portraitlab.model import PortraitModel
from portraitlab.parts import build_model
from portraitlab.tables.composing import composed
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES

PEOPLE, PHOTOS = IDENTITIES["train"][:3], 5


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return composed(["scale=smoke", "select=angle", *overrides])


def settings_of(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of `run.py scale=smoke …`."""
    return copy.deepcopy(_composed(overrides))


def model_of(config: dict[str, Any]) -> PortraitModel:
    """Its model, with random weights everywhere that training would move."""
    built = OmegaConf.create(config)
    model = build_model(built, instantiate(built.backbone), instantiate(built.encoder))
    torch.manual_seed(1)
    for parameter in model.trained_parameters():
        nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of identity folders of pictures of the world's people."""
    root = tmp_path_factory.mktemp("photos")
    for person in PEOPLE:
        (root / str(person)).mkdir()
        for number in range(PHOTOS):
            picture = Image.fromarray(render_photo(person, number, 64).image)
            picture.save(root / str(person) / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def files(photos: Path) -> list[Path]:
    """The photos of one person."""
    return sorted((photos / str(PEOPLE[0])).iterdir())


@pytest.fixture(scope="session")
def pictures(files: list[Path]) -> list[Image.Image]:
    """The same, read."""
    return [Image.open(file).copy() for file in files]


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an export of a configuration with random weights; the same one once."""
    folders: dict[tuple[str, ...], Path] = {}

    def written(*overrides: str) -> Path:
        if overrides not in folders:
            config = settings_of(*overrides)
            out = tmp_path_factory.mktemp("export") / "out"
            write_export(model_of(config), config, out, "a card", key="0" * 8, commit=None)
            folders[overrides] = out
        return folders[overrides]

    return written


@pytest.fixture
def portraitlab(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Exit code, output and messages of `portraitlab ...`."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
