"""Faults put into real runs: what was finished stays, and the same command goes on exactly."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from composing import run_py, without_wandb
from warm import warm

from portraitlab.runs.status import read_status
from portraitlab.runs.sweep import Sweep
from portraitlab.support.files import read_json
from portraitlab.training.losses import read_losses

pytestmark = pytest.mark.slow

STEPS = 20
SMOKE = ("scale=smoke", "metrics=[sim_f]", "logger=none", f"budget.steps={STEPS}")


@pytest.fixture(scope="module")
def straight(cache: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight")
    ended = run_py(*SMOKE, f"runs={folder}", f"cache={cache}", home=home)
    assert ended.returncode == 0, ended.stderr
    return run_folder(folder)


def run_folder(runs: Path) -> Path:
    (found,) = (runs / "hifi_portrait").glob("*/")
    return found


def assert_same(run: Path, straight: Path) -> None:
    """Check that all results of the training and its scoring are the same, files to the byte."""
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (run / name).read_bytes() == (straight / name).read_bytes(), name
    ours, theirs = read_json(run / "metrics.json"), read_json(straight / "metrics.json")
    assert ours is not None
    assert theirs is not None
    assert ours["metrics"] == theirs["metrics"]


class Command:
    """`run.py` in the background, in a process group of its own as a terminal's jobs are."""

    def __init__(self, *arguments: str, out: Path) -> None:
        self.out = out
        with out.open("w") as file:
            self.process = warm().start(list(arguments), without_wandb(), file, file)

    def wait_for(self, happens: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 300
        while not happens():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def end(self, signum: int, group: bool = False) -> int:
        (os.killpg if group else os.kill)(self.process.pid, signum)
        return self.process.wait(timeout=120)

    def output(self) -> str:
        return self.out.read_text()


@pytest.fixture
def start(tmp_path: Path, cache: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def begin(*arguments: str) -> Command:
        out = tmp_path / f"output-{len(started)}.txt"
        places = (f"runs={tmp_path / 'runs'}", f"cache={cache}")
        started.append(Command(*arguments, *SMOKE, *places, out=out))
        return started[-1]

    yield begin
    for command in started:
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGKILL)


def checkpoints(runs: Path, system: str = "hifi_portrait") -> list[Path]:
    return sorted(runs.glob(f"{system}/*/checkpoints/*.ckpt"))


def saved(runs: Path) -> int:
    """The latest step that a checkpoint is of."""
    return max([int(path.name.split("-")[1]) for path in checkpoints(runs)], default=0)


@pytest.mark.fault("every checkpoint cut short", "the training, which restarts")
@pytest.mark.fault("Ctrl-C during a training", "nothing")
@pytest.mark.fault("SIGTERM during a training", "nothing")
@pytest.mark.fault("SIGKILL during a training", "the steps since the last checkpoint")
@pytest.mark.fault("one bit of the last checkpoint flipped", "the steps since the one before")
def test_a_training_that_is_stopped_in_every_way_ends_in_the_same_bytes(
    start: Callable[..., Command], tmp_path: Path, straight: Path
) -> None:
    runs = tmp_path / "runs"

    def stop(signum: int, code: int) -> tuple[Command, dict[str, Any]]:
        before, command = set(checkpoints(runs)), start()
        command.wait_for(lambda: set(checkpoints(runs)) - before)
        signalled = time.monotonic()
        assert command.end(signum) == code, command.output()
        assert time.monotonic() - signalled < 30, "the grace time of a scheduler is over"
        assert "Traceback" not in command.output()
        status = read_status(run_folder(runs))
        assert status is not None
        return command, status

    _, status = stop(signal.SIGKILL, -signal.SIGKILL)
    assert status["state"] == "running"
    for path in checkpoints(runs):
        path.write_bytes(path.read_bytes()[:1000])
    for signum, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
        command, status = stop(signum, 128 + signum)
        step = saved(runs)
        assert (status["state"], status["error"]) == ("preempted", f"stopped by {name}")
        assert status["step"] == step
        assert f"stopped and saved after step {step}; the same command" in command.output()
    _, status = stop(signal.SIGKILL, -signal.SIGKILL)
    run = run_folder(runs)
    made = read_losses(run / "metrics.jsonl")[-1]["step"]
    assert made - saved(runs) <= 2, "more than the steps since the last checkpoint is lost"
    assert read_json(run / "metrics.json") is None
    *_, bad = checkpoints(runs)
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    last = start()
    assert last.process.wait(timeout=300) == 0, last.output()
    assert "is damaged; going back to the one before" in last.output().replace("\n", " ")
    assert_same(run, straight)


@pytest.mark.fault("Ctrl-C in a sweep", "nothing")
@pytest.mark.fault("SIGKILL of a sweep in its second job", "the steps since the last checkpoint")
def test_stopped_and_killed_sweeps_run_only_missing_jobs(
    start: Callable[..., Command], tmp_path: Path, straight: Path
) -> None:
    sweep, runs = ("-m", "seed=1,0,2", "jobs=1"), tmp_path / "runs"

    def states() -> list[str]:
        jobs = Sweep.read(next((runs / "sweeps").iterdir())).jobs
        statuses = [read_status(job.run.folder) for job in jobs]
        return [status["state"] for status in statuses if status is not None]

    stopped = start(*sweep)
    stopped.wait_for(lambda: checkpoints(runs))
    # A terminal sends it to all processes of the command.
    assert stopped.end(signal.SIGINT, group=True) == 130, stopped.output()
    assert "stopped: 0 of 3 jobs are done; the same command resumes" in stopped.output()
    assert "stopped and saved after step" in stopped.output()
    assert "Traceback" not in stopped.output()
    assert states() == ["preempted"]  # the others were not begun
    killed = start(*sweep)
    killed.wait_for(lambda: len({path.parent for path in checkpoints(runs)}) == 2)
    killed.end(signal.SIGKILL, group=True)
    assert states() == ["done", "running", "queued"]
    (first,) = runs.glob("*/*-s1-*/")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    again = start(*sweep)
    assert again.process.wait(timeout=300) == 0, again.output()
    assert states() == ["done"] * 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (second,) = runs.glob("*/*-s0-*/")
    assert_same(second, straight)
    assert len(list((runs / "sweeps").iterdir())) == 1


@pytest.mark.fault("a scheduler's signal before the time limit", "nothing")
def test_submitit_queues_a_training_again_that_its_signal_stopped(
    start: Callable[..., Command], tmp_path: Path, straight: Path
) -> None:
    command = start("-m", "seed=0", "launcher=slurm", "hydra.launcher.cluster=local")
    command.wait_for(lambda: checkpoints(tmp_path / "runs"))
    run = run_folder(tmp_path / "runs")
    status = read_status(run)
    assert status is not None
    os.kill(status["process"], signal.SIGUSR2)
    assert command.process.wait(timeout=300) == 0, command.output()
    assert "stopped and saved after step" in (run / "log.txt").read_text()
    again = read_status(run)
    assert again is not None
    assert again["state"] == "done"
    (log,) = (tmp_path / "runs" / "sweeps").glob("*/submitit/*/*_log.err")
    assert "Caught signal SIGUSR2" in log.read_text()
    assert "Requeued job" in log.read_text()
    assert_same(run, straight)


@pytest.mark.fault(
    "a full disk while a checkpoint is written", "the steps since the last checkpoint"
)
def test_a_full_disk_ends_the_run_with_one_message_and_loses_nothing(
    tmp_path: Path, cache: Path, home: Path, straight: Path
) -> None:
    """A disk with room for one checkpoint and not for two, made larger for the second try."""
    runs = tmp_path / "disk"
    runs.mkdir()
    largest = max(path.stat().st_size for path in straight.glob("checkpoints/*"))
    script = (
        f"mount -t tmpfs -o size={int(largest * 1.7)} none {runs} && echo small && read _ && "
        f"mount -o remount,size={largest * 20} {runs} && echo large && read _"
    )
    # The disk is mounted for this process alone, and others reach it by its number.
    with subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        if holder.stdout.readline() != "small\n":
            pytest.skip("this system lets nobody mount a small disk")
        disk = Path(f"/proc/{holder.pid}/root{runs}")
        command = (*SMOKE, f"runs={disk}", f"cache={cache}")
        first = run_py(*command, home=home)
        assert first.returncode == 1, first.stderr
        output = first.stdout + first.stderr
        assert "No space left on device" in output
        assert "free space there; the same command resumes from what is saved" in output
        assert "Traceback" not in output
        assert [path.name[:12] for path in checkpoints(disk)] == ["step-000002-"]
        print("larger", file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "large\n"
        second = run_py(*command, home=home)
        assert second.returncode == 0, second.stderr
        assert_same(run_folder(disk), straight)
        beside = [path for path in runs.rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert not beside, "it was written beside the disk"


@pytest.mark.parametrize(
    ("setting", "sweep"), [("runs", ()), ("runs", ("-m", "seed=0,1", "jobs=1")), ("cache", ())]
)
@pytest.mark.fault("a folder that cannot be written", "nothing: no step was made")
def test_a_folder_that_cannot_be_written_is_one_message(
    tmp_path: Path, cache: Path, home: Path, setting: str, sweep: tuple[str, ...]
) -> None:
    nowhere = tmp_path / "a-file"
    nowhere.write_text("")
    places = {"runs": tmp_path / "runs", "cache": cache} | {setting: nowhere / "below"}
    chosen = (f"{name}={path}" for name, path in places.items())
    ended = run_py(*sweep, *SMOKE, *chosen, home=home)
    assert ended.returncode == 1
    assert str(nowhere) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.fault(
    "a damaged cache under one job of a sweep", "nothing: it is made again, with a message"
)
def test_a_damaged_cache_is_made_again_and_costs_no_job(
    straight: Path, tmp_path: Path, cache: Path, home: Path
) -> None:
    assert straight.is_dir()  # its training filled the cache
    shutil.copytree(cache, tmp_path / "0")
    (tmp_path / "1").symlink_to(cache)
    damaged = [*(tmp_path / "0").glob("photos/*/*.arrow"), *(tmp_path / "0").glob("features/[!.]*")]
    whole = {path: path.read_bytes() for path in damaged}
    for path, content in whole.items():
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    ended = run_py(
        *("-m", "seed=0,1", "jobs=1", f"cache={tmp_path}/${{seed}}", *SMOKE),
        f"runs={tmp_path / 'runs'}",
        home=home,
    )
    assert ended.returncode == 0, ended.stderr
    jobs = Sweep.read(next((tmp_path / "runs" / "sweeps").iterdir())).jobs
    assert not [job for job in jobs if isinstance(job.outcome(), str)]
    assert "is damaged and is made again" in ended.stdout + ended.stderr
    used = [path for path, content in whole.items() if path.read_bytes() == content]
    assert len(used) >= 4


@pytest.fixture
def finished(straight: Path, tmp_path: Path) -> Path:
    """A copy of the run that nothing happened to, below the folder `runs`."""
    folder = tmp_path / "runs" / straight.parent.name / straight.name
    shutil.copytree(straight, folder)
    return folder


@pytest.mark.fault("a record cut in half", "the record, made again from the weights")
def test_a_record_that_is_damaged_is_made_again(
    finished: Path, start: Callable[..., Command], straight: Path
) -> None:
    record = finished / "metrics.json"
    record.write_bytes(record.read_bytes()[:500])
    again = start()
    assert again.process.wait(timeout=300) == 0, again.output()
    assert f"{record} is damaged" in again.output().replace("\n", "")
    assert "Training" not in again.output()
    assert_same(finished, straight)


@pytest.mark.fault("one bit of the weights flipped", "the training, with a message")
def test_damaged_weights_are_never_scored(finished: Path, start: Callable[..., Command]) -> None:
    weights = finished / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    scoring = start("task=score", "score_refs=2")
    assert scoring.process.wait(timeout=300) == 1
    assert "are damaged; train them again with fresh=true" in scoring.output()
