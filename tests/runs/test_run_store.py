"""The parts of the run store: locks, status, origin, names of sweeps."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from portraitlab.runs.origin import commit, origin
from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted, Status, read_status, write_status
from portraitlab.runs.sweep import Sweep, SweepJob, sweep_group, sweep_name
from portraitlab.support.files import DamagedFile, read_json, write_json
from portraitlab.support.lock import is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from portraitlab.support.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    process = holder(run, 1.0)
    assert is_locked(run)
    with caplog.at_level("INFO", logger="portraitlab"), locked(run):
        assert process.wait(timeout=30) == 0
    assert f"waiting for another process that has locked {run}" in caplog.text
    assert not is_locked(run)


def test_a_lock_is_taken_back_from_a_process_that_dies(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = holder(run, 600)
    process.kill()
    process.wait()
    assert not is_locked(run)
    with locked(run):
        assert (tmp_path / ".run.lock").exists()


def test_looking_at_a_lock_that_never_was_makes_no_file(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_status_lives_while_the_run_does(tmp_path: Path) -> None:
    with Status(tmp_path, every=0.02) as status:
        status.doing("training", steps=9)
        status.step = 3
        deadline = time.monotonic() + 20
        while "step" not in (read_status(tmp_path) or {}) and time.monotonic() < deadline:
            time.sleep(0.01)
        stored = read_status(tmp_path)
        assert stored is not None
        assert {name: stored[name] for name in ("state", "doing", "step", "steps", "process")} == {
            "state": "running", "doing": "training", "step": 3, "steps": 9, "process": os.getpid()
        }  # fmt: skip
        age = datetime.now(UTC) - datetime.fromisoformat(stored["written"])
        assert age.total_seconds() < 30
    ended = read_status(tmp_path)
    assert ended is not None
    assert ended["state"] == "done"
    assert "step" not in ended


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ValueError("broken"), "failed", "broken"),
        (MemoryError(), "failed", "MemoryError"),
        (Preempted(signal.SIGINT, "Ctrl-C"), "preempted", "stopped by Ctrl-C"),
    ],
)
def test_how_a_run_ended_is_written_down_and_raised(
    tmp_path: Path, error: BaseException, state: str, reason: str
) -> None:
    def train() -> None:
        with Status(tmp_path) as status:
            status.doing("training", steps=9)
            status.step = 4
            raise error

    with pytest.raises(type(error)):
        train()
    stored = read_status(tmp_path)
    assert stored is not None
    assert (stored["state"], stored["error"], stored["step"]) == (state, reason, 4)
    assert ("traceback" in stored) == (state == "failed")


def test_a_components_own_message_is_written_down(tmp_path: Path) -> None:
    def train() -> None:
        with Status(tmp_path / "run"):
            instantiate({"_target_": "portraitlab.data.prepared.PreparedData", "root": "nowhere"})

    with pytest.raises(InstantiationException):
        train()
    stored = read_status(tmp_path / "run")
    assert stored is not None
    assert stored["error"].startswith("data.root=nowhere holds no prepared photos")


def test_the_heart_and_the_run_do_not_write_over_each_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Status(tmp_path, every=0.0001) as status:
        for number in range(500):
            status.doing("training", steps=number)
            stored = read_status(tmp_path)
            assert stored is not None
            assert stored["steps"] == number
    assert "could not be written" not in caplog.text


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {"state": "finished"})
    with pytest.raises(DamagedFile, match=r"state: .*, not 'finished'\); delete the file"):
        read_status(tmp_path)


def test_the_error_is_raised_where_nothing_can_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"

    def train() -> None:
        with Status(folder):
            (folder / "status.json").unlink()
            folder.rmdir()
            folder.write_text("no folder any more")
            raise ValueError("the first error")

    with pytest.raises(ValueError, match="the first error"):
        train()
    assert "could not be written" in caplog.text


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None
    write_json(tmp_path / "a.json", {"value": [1, 2]})
    assert read_json(tmp_path / "a.json") == {"value": [1, 2]}
    (tmp_path / "a.json").write_text('{"value": [1')
    with pytest.raises(DamagedFile, match=r"a\.json is damaged .*delete the file"):
        read_json(tmp_path / "a.json")


def test_the_origin_names_code_libraries_and_machine() -> None:
    made = origin()
    assert made["commit"] is None or len(made["commit"].split("+")[0]) == 40
    assert made["versions"]["torch"]
    assert made["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert json.loads(json.dumps(made)) == made


def test_the_commit_marks_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    assert commit(tmp_path) is None
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    clean = commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == clean + "+changes"


def test_a_sweep_is_named_by_its_settings() -> None:
    name = sweep_name(["fusion=refiner,concat", "cond=landmarks,keypoints", "budget.steps=7"])
    assert name.startswith("cond-fusion-")
    same = ["budget.steps=7", "cond=landmarks,keypoints", "fusion=refiner,concat"]
    how = ["jobs=2", "fresh=true", "logger=none", "runs=elsewhere", "launcher=slurm"]
    how += ["hydra.launcher.partition=a", "hydra/launcher=local"]
    assert sweep_name([*same, *how]) == name
    assert sweep_name([*same, "seed=1"]) != name
    assert sweep_name(["optimiser.learning_rate=1e-3,1e-4"]).startswith("learning_rate-")


def job(folder: Path, name: str, overrides: dict[str, str], error: str | None = None) -> SweepJob:
    return SweepJob(overrides, Run(folder / "runs" / name, name, "scoring"), error)


def record(value: float) -> dict[str, Any]:
    metric = {"value": value, "error": 0.01, "higher_is_better": True}
    return {
        "scoring": "scoring", "metrics": {"sim_f": metric}, "bounds": {}, "faceless": 0, "images": 3
    }  # fmt: skip


def test_a_sweep_has_the_outcome_of_each_job(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "seed-1"
    names = ("done", "failed", "queued", "damaged", "gone")
    jobs = [job(tmp_path, name, {"seed": str(n)}) for n, name in enumerate(names)]
    Sweep(folder, jobs).write()
    write_json(jobs[0].run.folder / "metrics.json", record(0.4))
    write_status(jobs[1].run.folder, "failed", error="the loss is not finite")
    write_status(jobs[2].run.folder, "queued")
    jobs[3].run.folder.mkdir(parents=True)
    (jobs[3].run.folder / "metrics.json").write_text("{")
    again = Sweep.read(folder)
    assert [each.run.folder for each in again.jobs] == [each.run.folder for each in jobs]
    outcomes = [each.outcome() for each in again.jobs]
    assert outcomes[0] == record(0.4)
    assert outcomes[1:3] == ["failed: the loss is not finite", "queued"]
    assert "is damaged" in str(outcomes[3])
    assert outcomes[4] == "not begun"
    again.write_table()
    assert "0.400 ±0.010" in (folder / "sweep.md").read_text()
    assert (folder / "sweep.csv").read_text().splitlines()[2] == "1,failed"


def test_a_sweep_can_be_moved_with_its_runs(tmp_path: Path) -> None:
    one = tmp_path / "here"
    Sweep(one / "sweeps" / "a", [job(one, "x", {"seed": "0"})]).write()
    write_json(one / "runs" / "x" / "metrics.json", record(0.4))
    one.rename(tmp_path / "there")
    (moved,) = Sweep.read(tmp_path / "there" / "sweeps" / "a").jobs
    assert moved.outcome() == record(0.4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", {}, "scoring: Field required"),
        ("metrics.json", [1], "its content is a list"),
    ],
)
def test_a_record_of_another_content_is_damaged(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    run = job(tmp_path, "x", {"seed": "0"}).run
    write_json(run.folder / name, content)
    with pytest.raises(DamagedFile, match=message):
        run.record()


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "jobs: Field required"), ({"jobs": [{"overrides": {}}]}, r"jobs\.0\.run: Field req")],
)
def test_a_sweep_of_another_content_is_damaged(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    write_json(tmp_path / "sweep.json", content)
    with pytest.raises(DamagedFile, match=message):
        Sweep.read(tmp_path)


def test_a_record_of_which_a_digit_changed_is_made_again(tmp_path: Path, caplog) -> None:
    run = job(tmp_path, "x", {"seed": "0"}).run
    run.write_record(record(0.4))
    assert run.record() == record(0.4)
    path = run.folder / "metrics.json"
    whole = path.read_text()
    for damage in (
        whole.replace("0.4", "0.5"),
        whole[: len(whole) // 2],
        whole.replace("0.4", "1e999"),
    ):
        assert damage != whole
        path.write_text(damage)
        with pytest.raises(DamagedFile, match=r"metrics\.json is damaged"):
            run.record()
        assert run.sound_record() is None
        assert f"{path} is damaged" in caplog.text
        assert "it is made again from the weights" in caplog.text
    run.write_record(record(0.4))
    assert run.sound_record() == record(0.4)


def test_weights_changed_after_the_record_are_named(tmp_path: Path, caplog) -> None:
    run = job(tmp_path, "x", {"seed": "0"}).run
    run.write_record(record(0.4))
    run.weights.write_bytes(b"weights")
    run.note(sha256=hashlib.sha256(b"weights").hexdigest())
    assert run.sound_record() == record(0.4)
    assert not caplog.messages
    run.weights.write_bytes(b"weighty")
    assert run.sound_record() == record(0.4)
    assert f"since then the weights {run.weights} are damaged; train them again" in caplog.text


@pytest.mark.parametrize("content", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e400}', "[" * 9**5])
def test_numbers_that_are_not_finite_are_not_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")


def test_a_sweep_groups_its_runs_unless_the_command_does() -> None:
    folder = Path("runs/sweeps/seed-1")
    assert sweep_group(["fusion=concat", "seed=0,1"], folder) == "seed-1"
    assert sweep_group(["seed=0,1", "group=mine"], folder) is None


def test_a_folder_without_a_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no sweep\.json"):
        Sweep.read(tmp_path)
