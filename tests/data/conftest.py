"""A folder of photos for the tests of data."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from portraitlab.world.render import render_photo


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
