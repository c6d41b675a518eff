"""docs/encoders.md names every choice, and its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    python run\.py (.+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("group", ["encoder", "clip", "recogniser", "finder", "matting"])
def test_every_choice_is_on_the_page(group) -> None:
    for path in (ROOT / "conf" / group).glob("*.yaml"):
        assert f"`{group}={path.stem}`" in PAGE or f"`{path.stem}`" in PAGE, path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose("config", shlex.split(command))


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5
