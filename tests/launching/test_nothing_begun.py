"""A command that fails before its first step changes no run's state, and all views agree on it."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from composing import run_py

from portraitlab.app.cli.clean import unneeded
from portraitlab.runs.status import Status, queue, read_status, set_aside, withdraw, write_status
from portraitlab.runs.survey import look, run_folders
from portraitlab.runs.sweep import Sweep
from portraitlab.tables.report.rows import read_report

SMOKE = ("scale=smoke", "metrics=[sim_f]", "logger=none")
STOPPED = "+trainer.max_time=00:00:00:00"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, cache: Path, home: Path) -> Run:
    places = (f"runs={tmp_path}", f"cache={cache}")
    return lambda *arguments, **more: run_py(*arguments, *SMOKE, *places, home=home, **more)


def content(folder: Path) -> dict[Path, bytes]:
    """All files but the log, which has the messages of every command."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "log.txt"]
    return {path: path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU, so it is not refused")
def test_a_refusal_leaves_a_stopped_run_as_it_was_in_every_view(run: Run, tmp_path: Path) -> None:
    assert run(STOPPED).returncode == 128 + signal.SIGALRM
    (stopped,) = tmp_path.glob("hifi_portrait/*/")
    before = content(stopped)
    assert list(stopped.glob("checkpoints/*.ckpt"))
    status = read_status(stopped)

    # Refused before anything is built, and by Lightning when it is to train.
    ended = run("trainer.accelerator=gpu")
    assert ended.returncode == 1, ended.stdout
    assert "torch sees no GPU" in ended.stderr
    assert content(stopped) == before
    ended = run("+trainer.strategy=nonsense", "fresh=true")
    assert ended.returncode == 1, ended.stdout
    assert content(stopped) == before
    ended = run("+trainer.strategy=nonsense")
    assert ended.returncode == 1, ended.stdout
    assert "invalid strategy name" in ended.stderr
    assert read_status(stopped) == status
    assert not unneeded(look(stopped))

    # A sweep over it and a new run, of which each is refused.
    ended = run("-m", "seed=0,1", "jobs=1", "trainer.accelerator=gpu")
    assert ended.returncode == 1, ended.stdout
    assert read_status(stopped) == status
    assert list(tmp_path.glob("hifi_portrait/*/")) == [stopped]
    (folder,) = tmp_path.glob("sweeps/*/")
    assert states_in(folder) == ["preempted", "failed"]
    assert [look(each).state for each in run_folders(tmp_path)] == ["preempted"]
    notes = (folder / "sweep.md").read_text()
    assert "0 preempted: stopped by trainer.max_time; the same command resumes it" in notes
    assert "1 failed: trainer.accelerator=gpu: torch sees no GPU" in notes

    # Killed: its status says running, and no process has locked it.
    write_status(stopped, "running", host=socket.gethostname(), process=2**22 + 1, step=1, steps=4)
    assert states_in(folder) == ["lost", "failed"]
    assert [look(each).state for each in run_folders(tmp_path)] == ["lost"]


def states_in(sweep: Path) -> list[str]:
    """The states of a sweep's jobs on its page, which are those of its table."""
    states = [row.state for row in read_report(sweep).rows]
    outcomes = [job.outcome() for job in Sweep.read(sweep).jobs]
    assert [str(each).partition(":")[0] for each in outcomes] == states
    return states


def test_a_state_is_put_back_only_where_no_step_was_begun(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_status(folder, "failed", error="the disk is full", step=3)
    earlier = read_status(folder)
    queue(folder)
    queue(folder)  # by another sweep
    status = Status(folder)
    status.doing("training", 9)
    assert read_status(folder) != earlier
    withdraw(folder)
    assert read_status(folder) == earlier
    status.begin(3)
    withdraw(folder)
    assert look(folder).state == "lost"
    status.doing("scoring")
    withdraw(folder)
    assert look(folder).state == "lost"


@pytest.mark.parametrize("begins", ["nothing", "a step", "a scoring"])
def test_a_run_that_was_set_aside_is_put_back_until_its_successor_begins(
    tmp_path: Path, begins: str
) -> None:
    folder = tmp_path / "system" / "run"
    write_status(folder, "done", doing="scoring")
    (folder / "model.safetensors").write_text("earlier")
    for _ in range(2):  # the first command was killed before it began anything
        set_aside(folder)
        queue(folder)
        assert run_folders(tmp_path) == [folder]
        assert not (folder / "model.safetensors").exists()
    status = Status(folder)
    status.doing("training", 9)
    if begins == "a step":
        status.begin(1)
    elif begins == "a scoring":  # of a net that is not trained
        status.doing("scoring")
    withdraw(folder)
    assert [each.name for each in folder.parent.iterdir()] == ["run"]
    assert look(folder).state == ("done" if begins == "nothing" else "lost")
    assert (folder / "model.safetensors").exists() is (begins == "nothing")


def test_a_run_without_a_state_is_deleted_unless_it_has_results(tmp_path: Path) -> None:
    new, kept = tmp_path / "new", tmp_path / "kept"
    (kept / "checkpoints").mkdir(parents=True)
    (kept / "checkpoints" / "step-000002-0.ckpt").write_bytes(b"")
    for folder in (new, kept):
        queue(folder)
        (folder / "log.txt").write_text("")
        withdraw(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert not (kept / "status.json").exists()
