"""`python run.py --help`: every group, choice and setting, at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from placed import ROOT

from portraitlab.app.help import first_comment

CONF = ROOT / "conf"
CHOICES = sorted(
    (group.name, str(path.relative_to(group).with_suffix("")), path)
    for group in CONF.iterdir()
    if group.is_dir() and group.name != "hydra"
    for path in group.glob("**/*.yaml")
)


def run_py(*arguments: str, options: tuple[str, ...] = (), **variables: str) -> tuple[str, str]:
    ended = subprocess.run(
        [sys.executable, *options, "run.py", *arguments],
        cwd=ROOT,
        env={"PATH": "", **variables},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def shown() -> tuple[str, str]:
    return run_py("--help", options=("-X", "importtime"))


def test_every_group_and_choice_is_shown_with_what_it_is(shown: tuple[str, str]) -> None:
    lines = shown[0].splitlines()
    group = ""
    found = {}
    for line in lines:
        if heading := re.fullmatch(r"(\w+): (.+)", line):
            group = heading[1]
        elif choice := re.fullmatch(r"  [* ] ([\w/]+) +(\S.*)", line):
            found[group, choice[1]] = choice[2]
    assert found == {(group, name): first_comment(path) for group, name, path in CHOICES}
    assert all(found.values())


def test_what_is_taken_is_marked_and_settings_have_their_values() -> None:
    text, _ = run_py("fusion=concat", "refs=2", "debug=fast", "metrics=[sim_f,fid]", "--help")
    assert "  * concat " in text
    assert "    refiner " in text
    assert "  * fast " in text
    assert re.findall(r"\* (fid|exp|sim_f|all) ", text) == ["fid", "sim_f"]
    assert re.search(r"^  refs=2 +N, the most references", text, re.MULTILINE)
    assert re.search(r"^  runs=runs/debug ", text, re.MULTILINE)
    assert {"seed=0", "jobs=null"} < set(text.split())


def test_nothing_heavy_is_imported(shown: tuple[str, str]) -> None:
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in shown[1].splitlines()}
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "diffusers", "transformers", "wandb", "numpy"}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("fusion=", {"fusion=concat", "fusion=refiner"}),
        ("-m fusion=refiner debug=", {"debug=fast", "debug=overfit", "debug=profile"}),
        ("optimiser.", {"optimiser.learning_rate=", "optimiser.schedule="}),
    ],
)
def test_the_shell_completes_groups_choices_and_settings(typed: str, offered: set[str]) -> None:
    line = f"python run.py {typed}"
    text, _ = run_py("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert offered <= set(text.split())


def test_bash_completes_what_is_typed() -> None:
    script = (
        'eval "$(python run.py -sc install=bash)"; COMP_LINE="python run.py fusion=ref"; '
        "COMP_POINT=${#COMP_LINE}; COMP_WORDS=(python run.py fusion=ref); COMP_CWORD=2; "
        'hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert ended.stdout == "fusion=refiner\n", ended.stderr


def test_the_first_comment_is_a_choices_line(tmp_path: Path) -> None:
    path = tmp_path / "choice.yaml"
    path.write_text("# @package _global_\n# What it is.\n# More.\nname: 1\n")
    assert first_comment(path) == "What it is."
    path.write_text("name: 1\n# Not at the top.\n")
    assert first_comment(path) == ""
