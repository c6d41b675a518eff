"""The commands of docs/export.md are ones that the program takes."""

from __future__ import annotations

import argparse
import re
import shlex
from importlib import import_module

import pytest
from placed import ROOT

from portraitlab.app.cli.generate import _scaled, _setting

PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_taken_as_it_is_written(line: str) -> None:
    program, command, *arguments = shlex.split(line)
    assert program == "portraitlab"
    parser = argparse.ArgumentParser()
    import_module(f"portraitlab.app.cli.{command}").add_arguments(parser)
    given = parser.parse_args(arguments)
    for lora in getattr(given, "lora", []):
        assert _scaled(lora, "--lora", "", 1)[0][0].suffix == ".safetensors"
    for controlnet in getattr(given, "controlnet", []):
        assert _scaled(controlnet, "--controlnet", "", 2)[1] == 0.5
    for setting in getattr(given, "set", []):
        assert _setting(setting) == ("encoder.root", "packs")


def test_every_option_of_generate_is_documented() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    import_module("portraitlab.app.cli.generate").add_arguments(parser)
    options = [action.option_strings[0] for action in parser._actions if action.option_strings]
    assert [option for option in options if option not in PAGE] == []
