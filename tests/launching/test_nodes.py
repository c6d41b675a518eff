"""`trainer=ddp` on two nodes, which are two agents of torchrun on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from one_thread import one_thread
from placed import ROOT

from portraitlab.app.task.train import Train
from portraitlab.runs.run import Run
from portraitlab.training.losses import read_losses

pytestmark = pytest.mark.slow

SMOKE = (
    *("scale=smoke", "metrics=none", "logger=none", "budget.steps=2"),
    *("scale.identity_loss.start_fraction=0", "scale.world.score_identities=2"),
    "trainer.precision=32-true",  # in which shares of a batch sum to the whole nearly to the bit
)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def torchrun(*arguments: str, nodes: int, port: int) -> subprocess.Popen[str]:
    """One node's agent, as a user starts it there, with one process."""
    group = ["--nnodes", str(nodes), "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    group += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *group, "run.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_nodes_train_as_one_process(
    composed: Callable[..., DictConfig], cache: Path, tmp_path: Path
) -> None:
    common = (*SMOKE, f"cache={cache}")
    with one_thread():
        assert Train()(composed(*common, f"runs={tmp_path / 'one'}"))["steps"] == 2
    several = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2", *common)
    port = free_port()
    agents = [torchrun(*several, f"runs={tmp_path}/two", nodes=2, port=port) for _ in range(2)]
    outputs = [agent.communicate(timeout=300)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert sorted("this run" in each for each in outputs) == [False, True]
    (alone,) = (tmp_path / "one").glob("*/*/")
    (together,) = (tmp_path / "two").glob("*/*/")
    assert alone.name == together.name
    runs = [Run(folder, "", "") for folder in (alone, together)]
    assert [run.noted()["processes"] for run in runs] == [1, 2]
    ours, theirs = (read_losses(run.losses) for run in runs)
    assert len(ours) == len(theirs) == 2
    for line, other in zip(ours, theirs, strict=True):
        assert line == pytest.approx(other, rel=1e-4)
