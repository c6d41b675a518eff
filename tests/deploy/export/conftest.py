"""Exports of the miniature's and of tiny published models, and photos to draw with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exporting import model_of, settings_of
from PIL import Image
from publishing import write_sd15

from portraitlab.app.cli.main import main
from portraitlab.deploy.export.folder import write_export
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES

PEOPLE, PHOTOS = IDENTITIES["train"][:3], 5


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
    """Read the photos of one person."""
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
        capsys.readouterr()  # drop the output of fixtures
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 1.5 as it is published."""
    return write_sd15(tmp_path_factory.mktemp("sd15") / "base")


@pytest.fixture(scope="session")
def exported(export: Callable[..., Path], sd15: Path) -> Path:
    """An export of HiFi-Net on the tiny Stable Diffusion 1.5."""
    precision = "backbone.precision=float32"
    return export("backbone=sd15", f"backbone.folder={sd15}", precision, "net.start=null")
