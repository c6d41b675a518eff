"""The parts of launching: messages, shares of a machine, devices, stop signals, checkpoints."""

from __future__ import annotations

import errno
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from portraitlab.launching.local import next_job
from portraitlab.launching.slurm import tasks
from portraitlab.launching.sweeping import refuse_replays
from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted
from portraitlab.runs.sweep import SweepJob
from portraitlab.support.devices import check_batch, device_count
from portraitlab.support.errors import ends_the_program, message
from portraitlab.support.share import Share, shares
from portraitlab.training.checkpoints import latest
from portraitlab.training.losses import read_losses
from portraitlab.training.stopping import StopSignals
from portraitlab.training.trainer import check_trainer, time_limit

CPU: dict[str, Any] = {
    "accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "32-true"
}  # fmt: skip


def test_errors_of_the_user_have_messages_and_bugs_have_tracebacks() -> None:
    assert message(ValueError("refs=9")) == "refs=9"
    wrapped = InstantiationException("Error in call to target")
    wrapped.__cause__ = ValueError("refs=9")
    assert message(wrapped) == "refs=9"
    full = OSError(errno.ENOSPC, "No space left on device", "runs")
    assert "'runs': free space there; the same command resumes" in str(message(full))
    denied = message(PermissionError(errno.EACCES, "Permission denied", "runs"))
    assert "runs=FOLDER" in str(denied)
    assert message(FileNotFoundError(errno.ENOENT, "No such file", "x")) is not None
    assert message(RuntimeError("shapes differ")) is None
    assert message(KeyError("name")) is None


def test_weights_that_do_not_fit_on_the_disk_have_a_remedy() -> None:
    from safetensors import SafetensorError

    error = SafetensorError("I/O error: No space left on device (os error 28)")
    assert "free space there" in str(message(error))
    assert message(SafetensorError("InvalidHeader")) == "InvalidHeader"


def test_torch_s_memory_error_has_a_remedy() -> None:
    import torch

    assert "batch_size" in str(message(torch.OutOfMemoryError("CUDA out of memory.")))


def test_shares_are_disjoint_and_no_larger_than_the_machine() -> None:
    cores = sorted(os.sched_getaffinity(0))
    assert shares(1, [CPU]) == [Share()]
    many = shares(len(cores), [CPU])
    taken = [core for share in many for core in share.cores or ()]
    assert taken == cores
    for jobs in (0, len(cores) + 1, "two", True):
        with pytest.raises(ValueError, match=f"jobs={jobs}"):
            shares(jobs, [CPU])  # type: ignore[arg-type]


def test_a_sweep_on_a_cpu_has_a_job_on_each_core_and_on_gpus_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 5, 7})
    assert shares(None, [CPU]) == [Share((core,)) for core in (0, 1, 2, 5, 7)]
    assert shares(None, [CPU, {**CPU, "devices": 2}]) == [Share((0, 1)), Share((2, 5))]
    assert shares(None, [{**CPU, "devices": 6}]) == [Share()]
    gpu = {**CPU, "accelerator": "auto"}
    monkeypatch.setattr("portraitlab.support.share.visible_gpus", lambda: ["0", "1"])
    assert shares(None, [CPU, gpu]) == [Share()]
    monkeypatch.setattr("portraitlab.support.share.visible_gpus", list)
    assert len(shares(None, [gpu])) == 5


def test_devices_are_counted_by_the_trainers_settings() -> None:
    assert device_count(CPU) == 1
    assert device_count({**CPU, "devices": 3}) == 3
    assert device_count({**CPU, "devices": "auto"}) == 1
    assert device_count({"accelerator": "auto", "devices": "auto"}) >= 1


@pytest.mark.parametrize("devices", ["two", 0, 1.5, True, None, "0,1", -1])
def test_devices_must_be_a_number(devices: object) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.devices={devices}: a whole number from 1 is"):
        device_count({**CPU, "devices": devices})


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_gpus_are_chosen_by_the_environment_only(accelerator: str) -> None:
    trainer = {"accelerator": accelerator, "devices": [2, 3]}
    for settings in (trainer, OmegaConf.create(trainer)):
        with pytest.raises(ValueError, match=r"devices=2, .* CUDA_VISIBLE_DEVICES=2,3 before"):
            device_count(settings)


def test_a_batch_is_shared_evenly() -> None:
    check_batch(6, 3)
    with pytest.raises(ValueError, match=r"batch_size=4 does not divide by 3 devices.*of 3"):
        check_batch(4, 3)
    with pytest.raises(ValueError, match=r"batch_size=two: a whole number"):
        check_batch("two", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("accumulate_grad_batches", 2, r"smaller batch_size or gradient_checkpointing=true"),
        ("max_epochs", 1, r"budget\.steps=NUMBER"),
        ("limit_train_batches", 1.0, r"budget\.steps=NUMBER"),
        ("overfit_batches", 2, "debug=overfit"),
        ("use_distributed_sampler", True, "share of a batch by itself"),
        ("fast_dev_run", True, "debug=fast"),
        ("max_steps", 2, r"budget\.steps=4: .* as budget\.steps alone"),
    ],
)
def test_a_trainer_that_would_train_something_else_is_refused(
    name: str, value: object, instead: str
) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.{name}={value} .*{instead}"):
        check_trainer({**CPU, "max_steps": 4, name: value}, steps=4)


def test_a_trainer_s_settings_may_be_given_as_they_are() -> None:
    given = {"accumulate_grad_batches": 1, "max_epochs": None, "fast_dev_run": False}
    check_trainer({**CPU, "max_steps": 4, **given}, steps=4)


def test_a_time_limit_is_days_hours_minutes_and_seconds() -> None:
    assert time_limit(CPU) is None
    assert time_limit({**CPU, "max_time": None}) is None
    assert time_limit({**CPU, "max_time": "01:02:03:04"}) == 86400 + 2 * 3600 + 3 * 60 + 4


@pytest.mark.parametrize("given", [{"seconds": 1}, "nonsense", 0, "08:00:00"])
def test_a_time_limit_of_another_form_is_refused(given: object) -> None:
    message = re.escape(f"trainer.max_time={given}: ") + ".* as DD:HH:MM:SS, such as 00:08:00:00"
    with pytest.raises(ValueError, match=message):
        check_trainer({**CPU, "max_steps": 4, "max_time": given}, steps=4)


def test_slurm_gets_a_task_for_each_gpu() -> None:
    gpu = {"accelerator": "auto", "devices": 8, "num_nodes": 2}
    assert tasks([gpu, gpu]) == {"nodes": 2, "tasks_per_node": 8, "gpus_per_node": 8}
    assert tasks([CPU]) == {"nodes": 1, "tasks_per_node": 1}
    with pytest.raises(ValueError, match="2 kinds of devices"):
        tasks([gpu, CPU])
    with pytest.raises(ValueError, match=r"trainer\.devices=auto .*trainer\.devices=NUMBER"):
        tasks([{**gpu, "devices": "auto"}])
    with pytest.raises(ValueError, match=r"trainer\.devices=2, .*CUDA_VISIBLE_DEVICES=0,1"):
        tasks([{**gpu, "devices": [0, 1]}])


def test_replays_are_refused() -> None:
    basic = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    ours = "hydra_plugins.portraitlab_launchers.SlurmLauncher"
    two = {**CPU, "devices": 2}
    with pytest.raises(ValueError, match=r"trainer\.devices=2 with -m.*launcher=local"):
        refuse_replays(two, basic)
    refuse_replays(CPU, basic)
    refuse_replays(two, ours)


def test_signals_wait_for_the_step_only_where_they_may() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        with pytest.raises(Preempted) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.value.code == 143
        signals.later = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert signals.caught == signal.SIGUSR2
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("patient", [True, False])
def test_a_second_ctrl_c_is_impatient_but_in_a_group(patient: bool) -> None:
    with StopSignals(patient) as signals:
        signals.later = True
        os.kill(os.getpid(), signal.SIGINT)
        if patient:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.caught == signal.SIGINT
        else:
            with pytest.raises(Preempted, match="130"):
                os.kill(os.getpid(), signal.SIGINT)


def test_the_latest_checkpoint_is_the_latest_sound_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import hashlib

    def write(step: int, content: bytes, named: bytes | None = None) -> Path:
        digest = hashlib.sha256(content if named is None else named).hexdigest()[:16]
        path = tmp_path / f"step-{step:06d}-{digest}.ckpt"
        path.write_bytes(content)
        return path

    assert latest(tmp_path) is None
    assert latest(tmp_path / "none") is None
    sound = write(8, b"eight")
    damaged = write(12, b"twelv", named=b"twelve")
    (tmp_path / "other.ckpt").write_bytes(b"")
    assert latest(tmp_path) == sound
    assert f"{damaged} is damaged" in caplog.text


def test_a_line_of_losses_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_losses(path) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_losses(path) == [{"step": 1}, {"step": 2}]


def test_errors_that_hydra_would_swallow_end_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"a\.json is damaged"), ends_the_program():
        raise ValueError("a.json is damaged")
    with pytest.raises(SystemExit) as ended, ends_the_program():
        raise KeyError("a bug")
    assert ended.value.code == 1
    assert "KeyError: 'a bug'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="as it is"), ends_the_program():
        raise SystemExit("as it is")


def test_a_job_of_a_run_that_is_worked_on_lets_others_go_first(tmp_path: Path) -> None:
    one, other = Run(tmp_path / "one", "1", "s"), Run(tmp_path / "other", "2", "s")
    jobs = [SweepJob({"score_refs": str(n)}, run) for n, run in enumerate([one, one, one, other])]
    assert next_job(jobs, [0, 1, 2, 3], []) == 0
    assert next_job(jobs, [1, 2, 3], [0]) == 3
    assert next_job(jobs, [1, 2], [0, 3]) is None
    assert next_job(jobs, [1, 2], [3]) == 1
    assert next_job(jobs, [], []) is None
