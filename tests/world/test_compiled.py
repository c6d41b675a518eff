"""Rendering needs no folder that can be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from portraitlab.world.render import render_photo

RENDER = (
    "from portraitlab.world.render import render_photo as r; print(int(r(5, 0, 32).image.sum()))"
)


@pytest.mark.slow
def test_photos_are_the_same_where_numba_can_store_nothing() -> None:
    # Of numba's locators, this one serves notebooks alone.
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}
    done = subprocess.run(
        [sys.executable, "-c", RENDER], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == int(render_photo(5, 0, 32).image.sum())
