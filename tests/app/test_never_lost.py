"""Faults put into real runs: what was finished stays, and the same command goes on exactly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from composing import ROOT, run_py

from portraitlab.runs.files import read_json
from portraitlab.runs.status import read_status
from portraitlab.runs.sweep import Sweep
from portraitlab.training.losses import read_losses

pytestmark = pytest.mark.slow

STEPS = 40
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
    """All that the training and its scoring gave is the same, to the byte where it is a file."""
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
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        with out.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "run.py", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, happens: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 300
        while not happens():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def end(self, signum: int, group: bool = False) -> int:
        (os.killpg if group else os.kill)(self.process.pid, signum)
        return self.process.wait(timeout=120)

    def said(self) -> str:
        return self.out.read_text()


@pytest.fixture
def start(tmp_path: Path, cache: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def begin(*arguments: str) -> Command:
        out = tmp_path / f"said-{len(started)}.txt"
        places = (f"runs={tmp_path / 'runs'}", f"cache={cache}")
        started.append(Command(*arguments, *SMOKE, *places, out=out))
        return started[-1]

    yield begin
    for command in started:
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGKILL)


def checkpoints(runs: Path, system: str = "hifi_portrait") -> list[Path]:
    return sorted(runs.glob(f"{system}/*/checkpoints/*.ckpt"))


def step_of(path: Path) -> int:
    return int(path.name.split("-")[1])


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
@pytest.mark.fault("Ctrl-C or SIGTERM in the midst of a training", "nothing")
def test_a_training_that_is_told_to_stop_saves_its_last_step(
    start: Callable[..., Command], tmp_path: Path, straight: Path, signum: int, code: int
) -> None:
    command = start()
    command.wait_for(lambda: checkpoints(tmp_path / "runs"))
    told = time.monotonic()
    assert command.end(signum) == code, command.said()
    assert time.monotonic() - told < 30, "SLURM's grace time is over"
    run = run_folder(tmp_path / "runs")
    status = read_status(run)
    assert status is not None
    assert status["state"] == "preempted"
    saved = max(map(step_of, checkpoints(tmp_path / "runs")))
    assert status["step"] == saved
    assert f"stopped and saved after step {saved}; the same command goes on" in command.said()
    assert "Traceback" not in command.said()
    again = start()
    assert again.process.wait(timeout=300) == 0, again.said()
    assert_same(run, straight)


@pytest.mark.fault("a second Ctrl-C", "the steps since the last checkpoint")
def test_a_second_ctrl_c_does_not_wait(start: Callable[..., Command], tmp_path: Path) -> None:
    command = start()
    command.wait_for(lambda: checkpoints(tmp_path / "runs"))
    os.kill(command.process.pid, signal.SIGINT)
    assert command.end(signal.SIGINT) == 130
    status = read_status(run_folder(tmp_path / "runs"))
    assert status is not None
    assert status["state"] == "preempted"


@pytest.mark.fault(
    "SIGKILL between two checkpoints", "the steps since the last checkpoint", times=3
)
def test_a_killed_training_goes_on_to_the_same_bytes(
    start: Callable[..., Command], tmp_path: Path, straight: Path
) -> None:
    killed_at = []
    for wanted in (3, 17, 30):  # between checkpoints, which are made every second step
        command = start()
        command.wait_for(
            lambda wanted=wanted: any(
                line["step"] >= wanted
                for path in tmp_path.glob("runs/*/*/metrics.jsonl")
                for line in read_losses(path)
            )
        )
        assert command.end(signal.SIGKILL) == -signal.SIGKILL
        run = run_folder(tmp_path / "runs")
        lost = read_losses(run / "metrics.jsonl")[-1]["step"]
        lost -= max(map(step_of, checkpoints(tmp_path / "runs")))
        assert lost <= 2, "more than the steps since the last checkpoint is lost"
        killed_at.append(lost)
        assert read_json(run / "metrics.json") is None
        status = read_status(run)
        assert status is not None
        assert status["state"] == "running"
    last = start()
    assert last.process.wait(timeout=300) == 0, last.said()
    assert_same(run, straight)


@pytest.mark.fault("one bit of a checkpoint turned", "the steps since the one before")
def test_a_damaged_checkpoint_is_passed_over(
    start: Callable[..., Command], tmp_path: Path, straight: Path
) -> None:
    command = start()
    command.wait_for(lambda: len(checkpoints(tmp_path / "runs")) == 2)
    command.end(signal.SIGKILL)
    good, bad = checkpoints(tmp_path / "runs")[-2:]
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    again = start()
    assert again.process.wait(timeout=300) == 0, again.said()
    assert f"{bad} is damaged; going back to the one before" in again.said().replace("\n", "")
    assert good.name.startswith("step-")
    assert_same(run_folder(tmp_path / "runs"), straight)


@pytest.mark.fault("every checkpoint cut short", "the training, which begins anew")
def test_a_checkpoint_cut_short_is_passed_over_too(
    start: Callable[..., Command], tmp_path: Path, straight: Path
) -> None:
    command = start()
    command.wait_for(lambda: checkpoints(tmp_path / "runs"))
    command.end(signal.SIGKILL)
    for path in checkpoints(tmp_path / "runs"):
        path.write_bytes(path.read_bytes()[:1000])
    again = start()
    assert again.process.wait(timeout=300) == 0, again.said()
    assert_same(run_folder(tmp_path / "runs"), straight)


@pytest.mark.fault("SIGKILL of a sweep in its second job", "the steps since the last checkpoint")
def test_a_killed_sweep_does_only_what_is_missing(
    start: Callable[..., Command], tmp_path: Path, straight: Path
) -> None:
    sweep = ("-m", "seed=1,0,2")
    command = start(*sweep)
    command.wait_for(lambda: len({path.parent for path in checkpoints(tmp_path / "runs")}) == 2)
    command.end(signal.SIGKILL)
    runs = tmp_path / "runs" / "hifi_portrait"
    (first,) = runs.glob("*-s1-*/")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    (queued,) = runs.glob("*-s2-*/")
    assert read_status(queued)["state"] == "queued"
    again = start(*sweep)
    assert again.process.wait(timeout=300) == 0, again.said()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (second,) = runs.glob("*-s0-*/")
    assert_same(second, straight)
    assert len(list(runs.glob("*/metrics.json"))) == 3
    assert len(list((tmp_path / "runs" / "sweeps").iterdir())) == 1


@pytest.mark.fault("Ctrl-C in a sweep", "nothing")
def test_ctrl_c_stops_a_sweep_after_a_step_and_says_how_to_go_on(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    sweep = ("-m", "seed=0,1")
    command = start(*sweep)
    command.wait_for(lambda: checkpoints(tmp_path / "runs"))
    # A terminal sends it to all processes of the command.
    assert command.end(signal.SIGINT, group=True) == 130, command.said()
    assert "stopped: 0 of 2 jobs are done; the same command goes on" in command.said()
    assert "stopped and saved after step" in command.said()
    assert "Traceback" not in command.said()
    jobs = Sweep.read(next((tmp_path / "runs" / "sweeps").iterdir())).jobs
    assert [read_status(job.run.folder)["state"] for job in jobs] == ["preempted"] * 2


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
    assert command.process.wait(timeout=300) == 0, command.said()
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
    tmp_path: Path, cache: Path, straight: Path
) -> None:
    """A disk with room for one checkpoint and not for two, made larger for the second try."""
    runs = tmp_path / "disk"
    runs.mkdir()
    largest = max(path.stat().st_size for path in straight.glob("checkpoints/*"))
    command = (
        f"{sys.executable} run.py {' '.join(SMOKE)} runs={runs} 'cache={cache}' metrics=[sim_f]"
    )
    script = (
        f"mount -t tmpfs -o size={int(largest * 1.7)} none {runs} || exit 77; "
        f"{command}; echo first $?; ls {runs}/*/*/checkpoints; cat {runs}/*/*/status.json; "
        f"mount -o remount,size={largest * 20} {runs}; "
        f"{command}; echo second $?; cp -r {runs} {tmp_path}/kept"
    )
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if ended.returncode == 77:
        pytest.skip("this system lets nobody mount a small disk")
    said, status = ended.stdout.split("first ")[0] + ended.stderr, ended.stdout
    assert "first 1" in ended.stdout, said
    assert "No space left on device" in said
    assert "free space there; the same command goes on from what is saved" in said
    assert "Traceback" not in said
    assert "step-000002-" in status.split("first 1")[1]
    assert "second 0" in ended.stdout, said
    assert_same(run_folder(tmp_path / "kept"), straight)


@pytest.mark.parametrize("setting", ["runs", "cache"])
@pytest.mark.fault("a folder that cannot be written", "nothing: no step was made")
def test_a_folder_that_cannot_be_written_is_one_message(
    tmp_path: Path, cache: Path, home: Path, setting: str
) -> None:
    nowhere = tmp_path / "a-file"
    nowhere.write_text("")
    places = {"runs": tmp_path / "runs", "cache": cache} | {setting: nowhere / "below"}
    ended = run_py(*SMOKE, *(f"{name}={path}" for name, path in places.items()), home=home)
    assert ended.returncode == 1
    assert str(nowhere) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.fault(
    "a cache of another version under one job of a sweep", "that job, with a message"
)
def test_a_cache_of_another_version_fails_its_job_and_no_other(
    tmp_path: Path, cache: Path, home: Path
) -> None:
    shutil.copytree(cache, tmp_path / "0")
    (tmp_path / "1").symlink_to(cache)
    for about in (tmp_path / "0").glob("photos/*/about.json"):
        about.write_text(json.dumps({**json.loads(about.read_text()), "format": 1}))
    ended = run_py(
        *("-m", "seed=0,1", f"cache={tmp_path}/${{seed}}", *SMOKE, f"runs={tmp_path / 'runs'}"),
        home=home,
    )
    assert ended.returncode == 1
    first, second = Sweep.read(next((tmp_path / "runs" / "sweeps").iterdir())).jobs
    message = first.outcome()
    assert isinstance(message, str)
    assert "has format 1, not " in message
    assert "made anew" in message
    assert not isinstance(second.outcome(), str)


@pytest.mark.fault("a record cut in half", "the record, made again from the weights")
def test_a_record_that_is_damaged_is_never_taken_for_one(
    tmp_path: Path, cache: Path, home: Path
) -> None:
    command = (*SMOKE, f"runs={tmp_path}", f"cache={cache}")
    assert run_py(*command, home=home).returncode == 0
    record = run_folder(tmp_path) / "metrics.json"
    whole = record.read_bytes()
    record.write_bytes(whole[: len(whole) // 2])
    ended = run_py(*command, home=home)
    assert ended.returncode == 1
    assert f"{record} is damaged" in ended.stderr
    record.unlink()
    assert run_py(*command, home=home).returncode == 0
    assert read_json(record)["metrics"] == json.loads(whole)["metrics"]


@pytest.mark.fault("one bit of the weights turned", "the training, with a message")
def test_damaged_weights_are_never_scored(tmp_path: Path, cache: Path, home: Path) -> None:
    command = (*SMOKE, f"runs={tmp_path}", f"cache={cache}")
    assert run_py(*command, home=home).returncode == 0
    weights = run_folder(tmp_path) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    ended = run_py("task=score", "score_refs=2", *command, home=home)
    assert ended.returncode == 1
    assert "are damaged; train them again with fresh=true" in ended.stderr
