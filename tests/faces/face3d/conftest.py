"""Folders of files in the published formats, written once for each file of tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from published import write_flame, write_tddfa


@pytest.fixture(scope="module")
def flame_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flame")
    write_flame(folder)
    return folder


@pytest.fixture(scope="module")
def tddfa_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("3ddfa")
    write_tddfa(folder)
    return folder
