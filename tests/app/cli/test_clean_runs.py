"""`portraitlab clean`: frees what nothing goes on from, and nothing else."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from placed import ROOT
from storing import Store

from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted, Status, write_status

Call = Callable[..., tuple[int, str, str]]


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.fixture
def many(store: Store) -> dict[str, Run]:
    runs = {
        "done": store.done(),
        "failed": store.failed("seed=1"),
        "failed in scoring": store.failed("seed=8"),
        "preempted": store.begun("seed=2"),
        "queued": store.begun("seed=3"),
        "lost": store.begun("seed=4"),
        "elsewhere": store.begun("seed=5"),
        "without weights": store.done("seed=6"),
        "damaged": store.done("seed=7"),
    }
    with pytest.raises(Preempted), Status(runs["preempted"].folder):
        raise Preempted(15, "SIGTERM")
    write_status(runs["queued"].folder, "queued")
    status = Status(runs["lost"].folder)
    status.doing("training", 1000)
    write_status(runs["elsewhere"].folder, "running", host="elsewhere", process=1)
    runs["without weights"].weights.unlink()
    runs["failed in scoring"].weights.write_bytes(bytes(10))
    (runs["damaged"].folder / "status.json").write_text("{")
    return runs


def leave_halves(run: Run) -> set[Path]:
    halves = {
        run.folder / ".metrics.json.4711",
        run.folder / ".model.safetensors",
        run.checkpoints / ".half",
        run.folder / "scores" / "aaaaaaaa" / ".metrics.json.12",
    }
    for path in halves:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
    (run.folder / ".hidden").write_text("kept")
    return halves


def test_agreement_frees_unneeded_files(
    store: Store, many: dict[str, Run], portraitlab: Call, answer: Callable[[str], None]
) -> None:
    due = {
        *many["done"].checkpoints.iterdir(),
        *many["failed in scoring"].checkpoints.iterdir(),
        *leave_halves(many["lost"]),
    }
    leave_halves(many["elsewhere"])
    before = files(store.folder)
    answer("y\n")
    code, output, _ = portraitlab("clean", store.folder)
    assert code == 0
    assert f"free {len(due)} files, 0.0 MB? [y/N]" in output
    assert f"freed {len(due)} files" in output
    assert {Path(line) for line in output.splitlines() if line.startswith("/")} == due
    assert before - files(store.folder) == due
    assert files(store.folder) <= before
    assert portraitlab("clean", store.folder)[1] == f"nothing to free in {store.folder}\n"


@pytest.mark.parametrize("reply", ["", "\n", "n\n", "no\n", "maybe\n"])
def test_anything_but_yes_frees_nothing(
    store: Store, portraitlab: Call, answer: Callable[[str], None], reply: str
) -> None:
    store.done()
    before = files(store.folder)
    answer(reply)
    code, output, _ = portraitlab("clean", store.folder)
    assert code == 0
    assert output.endswith("nothing was freed\n")
    assert files(store.folder) == before


def test_scripts_need_no_answer(store: Store, portraitlab: Call) -> None:
    run = store.done()
    code, output, _ = portraitlab("clean", store.folder, "--yes")
    assert code == 0
    assert list(run.checkpoints.iterdir()) == []
    assert "freed 2 files" in output


def hold(run: Run) -> subprocess.Popen[bytes]:
    """A process of its own that holds the run's lock."""
    code = (
        "import sys, time; from pathlib import Path; from portraitlab.support.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_run_that_a_process_works_on_is_left_alone(store: Store, portraitlab: Call) -> None:
    run = store.done()
    leave_halves(run)
    before = files(store.folder)
    process = hold(run)
    try:
        assert portraitlab("clean", store.folder, "--yes")[1].startswith("nothing to free")
        assert files(store.folder) == before
    finally:
        process.kill()
        process.wait()
    assert portraitlab("clean", store.folder, "--yes")[1].count("freed 6 files") == 1


def test_a_run_resumed_during_the_question_is_left_alone(
    store: Store, portraitlab: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, begun_anew, other = store.done(), store.done("seed=1"), store.done("seed=2")
    holders = []

    def reply_late(question: str) -> str:
        holders.append(hold(taken))
        begun_anew.weights.unlink()
        return "y"

    monkeypatch.setattr("builtins.input", reply_late)
    try:
        output = portraitlab("clean", store.folder)[1]
    finally:
        for process in holders:
            process.kill()
            process.wait()
    assert f"left alone: {taken.folder}" in output
    assert "freed 2 files" in output
    assert len(list(taken.checkpoints.iterdir())) == 2
    assert len(list(begun_anew.checkpoints.iterdir())) == 2
    assert list(other.checkpoints.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path, portraitlab: Call) -> None:
    code, _, message = portraitlab("clean", tmp_path / "nowhere")
    assert code == 1
    assert "there is no folder" in message
