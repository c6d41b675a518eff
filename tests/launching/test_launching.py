"""Sweeps and groups of processes, as a user starts them: isolated, side by side, never replayed."""

from __future__ import annotations

import concurrent.futures
import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from composing import run_py
from placed import ROOT

from portraitlab.runs.sweep import Sweep
from portraitlab.training.losses import read_losses

pytestmark = pytest.mark.slow

SHORT = ("scale=smoke", "metrics=[sim_f]", "logger=none")
SMOKE = (*SHORT, "jobs=1")
GROUP = ("trainer=ddp", "trainer.accelerator=cpu")
FAULTY = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "launching")])}


@pytest.fixture
def places(tmp_path: Path, cache: Path) -> tuple[str, str]:
    return f"runs={tmp_path}", f"cache={cache}"


def sweep_in(folder: Path) -> Sweep:
    (found,) = (folder / "sweeps").glob("*/sweep.json")
    return Sweep.read(found.parent)


def rows(folder: Path) -> list[list[str]]:
    (found,) = (folder / "sweeps").glob("*/sweep.csv")
    return list(csv.reader(found.read_text().splitlines()))


def training(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "training.json").read_text())
    return content


@pytest.mark.fault("a job on two devices after a job on one", "nothing")
@pytest.mark.fault("the first of two processes fails alone", "that job, with a message")
@pytest.mark.fault("the second of two processes fails alone", "that job, with a message")
def test_groups_of_processes_in_a_sweep_end_alone_and_neither_replay_it_nor_inherit_one(
    tmp_path: Path, home: Path, places: tuple[str, str]
) -> None:
    ended = run_py(
        *("-m", "seed=0,1,2,3", *GROUP, *SMOKE, *places, "logger._target_=faulty.fail_alone"),
        *("+devices=[2,2,1,2]", "trainer.devices='${oc.select:devices.${seed}}'"),  # by seed
        home=home,
        **FAULTY,
    )
    assert ended.returncode == 1, ended.stderr
    # The second leaves no run: it failed before its first step.
    assert len(list((tmp_path / "hifi_portrait").glob("*/"))) == 3
    *failing, one, two = sweep_in(tmp_path).jobs
    for who, outcome in zip(("first", "second"), [job.outcome() for job in failing], strict=True):
        assert isinstance(outcome, str)
        assert f"the {who} process failed alone" in outcome
    assert [training(job.run.folder)["processes"] for job in (one, two)] == [1, 2]
    for job in (one, two):
        assert [line["step"] for line in read_losses(job.run.losses)] == [1, 2, 3, 4]
    assert ended.stdout.count("this run") == 2


@pytest.mark.parametrize(
    "given",
    [
        ("seed=0", *GROUP, "trainer.devices=2"),
        ("seed=0", "launcher=slurm", "hydra.launcher.cluster=local"),
    ],
    ids=["group", "submitit"],
)
def test_a_job_that_is_out_of_time_is_preempted(
    tmp_path: Path, home: Path, places: tuple[str, str], given: tuple[str, ...]
) -> None:
    ended = run_py("-m", *given, *SMOKE, *places, "+trainer.max_time=00:00:00:00", home=home)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    (job,) = sweep_in(tmp_path).jobs
    assert job.outcome() == "preempted: stopped by trainer.max_time; the same command resumes it"
    assert len(list(job.run.checkpoints.glob("step-000001-*.ckpt"))) == 1


@pytest.mark.fault("a job leaves a live W&B run and changed globals", "nothing")
@pytest.mark.fault("a job dies by SIGSEGV in a sweep", "that job, with a message")
def test_a_job_that_leaves_its_process_changed_or_dies_harms_no_other(
    tmp_path: Path, home: Path, places: tuple[str, str]
) -> None:
    ended = run_py(
        *("-m", "seed=0,1,2", *SMOKE, "logger._target_=faulty.leak_and_crash", *places),
        home=home,
        **FAULTY,
    )
    assert ended.returncode == 1
    assert rows(tmp_path)[2][1] == "failed"
    _, dead, last = sweep_in(tmp_path).jobs
    assert dead.outcome() == "failed: killed by SIGSEGV"
    assert not dead.run.folder.exists()  # it died before its first step
    assert "1 failed: killed by SIGSEGV" in ended.stdout
    after = last.outcome()
    assert not isinstance(after, str), (after, ended.stderr)
    alone = run_py("seed=2", *SMOKE, f"runs={tmp_path / 'alone'}", places[1], home=home)
    assert alone.returncode == 0, alone.stderr
    (record,) = (tmp_path / "alone").glob("*/*/metrics.json")
    assert json.loads(record.read_text())["metrics"] == after["metrics"]


def test_a_script_of_a_slurm_allocation_trains_alone(
    tmp_path: Path, home: Path, places: tuple[str, str]
) -> None:
    allocation = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    allocation |= {"SLURM_NODEID": "0", "SLURM_JOB_ID": "12", "SLURM_JOB_NAME": "job.sh"}
    ended = run_py("fresh=true", *SHORT, *places, home=home, **allocation)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list(tmp_path.glob("*/*/model.safetensors"))


def test_jobs_side_by_side_share_the_cores_and_end_in_one_table(
    tmp_path: Path, home: Path, places: tuple[str, str]
) -> None:
    check = "logger._target_=faulty.checked_threads"
    both = run_py("-m", "seed=0,1", *SHORT, check, *places, home=home, **FAULTY)
    assert both.returncode == 0, both.stdout + both.stderr
    counts = [path.read_text().split() for path in tmp_path.glob("*/*/threads.txt")]
    assert counts == [["1", "1"]] * 2
    assert len(rows(tmp_path)) == 1 + 2 + 3
    cores = len(os.sched_getaffinity(0))
    assert len(list((tmp_path / "sweeps").glob("*/job-*.txt"))) == (2 if cores > 1 else 0)


@pytest.mark.fault("the same sweep started twice at once", "nothing")
def test_the_same_sweep_started_twice_at_once_trains_its_run_once(
    tmp_path: Path, home: Path, places: tuple[str, str]
) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: run_py("-m", "seed=0", *SMOKE, *places, home=home), "ab"))
    assert [each.returncode for each in ended] == [0, 0], [each.stderr for each in ended]
    assert sum("Training" in each.stdout for each in ended) == 1
    assert sum("waiting for another process that has locked" in each.stdout for each in ended) == 1
    (run,) = (tmp_path / "hifi_portrait").glob("*/")
    assert [line["step"] for line in read_losses(run / "metrics.jsonl")] == [1, 2, 3, 4]
    assert "±" in rows(tmp_path)[1][-1]


@pytest.mark.fault(
    "fresh=true with two scorings of one training", "the run, which the user discarded"
)
def test_fresh_in_a_sweep_forgets_a_training_once(
    tmp_path: Path, home: Path, places: tuple[str, str]
) -> None:
    command = ("-m", "select=target,random", *SMOKE, *places)
    assert run_py(*command, home=home).returncode == 0
    (weights,) = tmp_path.glob("*/*/model.safetensors")
    before = weights.stat().st_mtime_ns
    again = run_py(*command, "fresh=true", home=home)
    assert again.returncode == 0, again.stderr
    assert weights.stat().st_mtime_ns > before
    assert len(list(weights.parent.glob("**/metrics.json"))) == 2
    assert again.stdout.count("Training") == 1


@pytest.mark.fault("a sweep under torchrun", "nothing: it is refused")
def test_torchrun_with_a_sweep_is_refused(home: Path, places: tuple[str, str]) -> None:
    ended = run_py("-m", "seed=0,1", *SMOKE, *places, home=home, TORCHELASTIC_RUN_ID="1")
    assert ended.returncode == 1
    assert "run the whole sweep again" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_sbatch_file_asks_for_a_task_for_each_gpu(
    tmp_path: Path, home: Path, places: tuple[str, str]
) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, does in {
        "sbatch": f"cp $1 {tmp_path}/sbatch.sh; echo Submitted batch job 12",
        "srun": "true",
        "sacct": "printf 'JobID|State\\n12_0|NODE_FAIL\\n12_1|NODE_FAIL\\n'",
    }.items():
        (bin / name).write_text(f"#!/bin/sh\n{does}\n")
        (bin / name).chmod(0o755)
    ended = run_py(
        *("-m", "seed=0,1", "launcher=slurm", "trainer=ddp", "trainer.devices=8"),
        *("trainer.num_nodes=2", "hydra.launcher.partition=a800", *SMOKE, *places),
        "+hydra.callbacks.impatient._target_=faulty.Impatient",
        home=home,
        **FAULTY,
        PATH=f"{bin}:{os.environ['PATH']}",
    )
    assert ended.returncode == 1, "no job was run"
    text = (tmp_path / "sbatch.sh").read_text()
    for line in (
        *("--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--partition=a800"),
        *("--time=1440", "--signal=USR2@300", "--requeue", "--array=0-1%2", "--cpus-per-task=16"),
    ):
        assert f"#SBATCH {line}\n" in text
    assert "srun" in text
    assert all("NODE_FAIL" in str(job.outcome()) for job in sweep_in(tmp_path).jobs)


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (["trainer=ddp"], ["trainer.devices=auto", "trainer.devices=NUMBER"]),
        (["trainer.devices=1,2"], ["2 kinds of devices", "a command of its own"]),
    ],
)
def test_devices_that_slurm_cannot_know_are_refused(
    home: Path, places: tuple[str, str], settings: list[str], messages: list[str]
) -> None:
    ended = run_py(
        *("-m", "seed=0,1", "launcher=slurm", "hydra.launcher.cluster=local", *settings),
        *(*SMOKE, *places),
        home=home,
    )
    assert ended.returncode == 1
    for part in messages:
        assert part in ended.stderr
