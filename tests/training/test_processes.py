"""Processes that share each batch train what one process with all of it does."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import sharing
import torch
from one_thread import one_thread
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from portraitlab.support.ranks import Split
from portraitlab.training.checkpoints import latest

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    folder = tmp_path_factory.mktemp("alone")
    with one_thread():
        return folder, sharing.train(folder).state_dict()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Weights]]:
    """Two processes over gloo."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(sharing.process, (folder, 2, 1, port), nprocs=2)
    weights = [torch.load(folder / f"weights-{rank}.pt", weights_only=True) for rank in range(2)]
    return folder, weights


def assert_same_losses(found: Path, expected: Path) -> None:
    ours, theirs = sharing.losses(found), sharing.losses(expected)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for line, other in zip(ours, theirs, strict=True):
        assert line == pytest.approx(other, rel=1e-5)


def test_two_processes_have_the_losses_of_one(together, alone) -> None:
    assert_same_losses(together[0], alone[0])
    assert all("train/identity" in line for line in sharing.losses(alone[0]))
    assert len({line["train/loss"] for line in sharing.losses(alone[0])}) == sharing.STEPS


def test_two_processes_have_the_weights_of_one(together, alone, tmp_path: Path) -> None:
    first, second = together[1]
    assert all(torch.equal(first[name], second[name]) for name in first)
    before = torch.load(sorted(alone[0].glob("*.ckpt"))[0], weights_only=True)["state_dict"]
    moved = max(float((alone[1][name] - value).abs().max()) for name, value in before.items())
    apart = max(float((first[name] - value).abs().max()) for name, value in alone[1].items())
    # Adam divides by a gradient's own size, so where that is next to nothing rounding shows.
    assert apart < 0.02 * moved


def test_no_step_sends_buffers(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        model = torch.nn.BatchNorm1d(2)
        wrapped = DistributedDataParallel(model, **sharing.ddp()._ddp_kwargs)
        assert not wrapped.will_sync_module_buffers()
    finally:
        torch.distributed.destroy_process_group()


def test_one_process_resumes_where_two_were_stopped(together, alone, tmp_path: Path) -> None:
    for path in together[0].glob("step-000002-*.ckpt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "losses.jsonl").write_bytes((together[0] / "losses.jsonl").read_bytes())
    with one_thread():
        weights = sharing.train(tmp_path, resume=latest(tmp_path)).state_dict()
    assert_same_losses(tmp_path, alone[0])
    torch.testing.assert_close(weights, alone[1], atol=1e-5, rtol=1e-3)


def test_every_sample_is_one_process_s() -> None:
    whole, chosen = torch.arange(12), torch.tensor([0, 1, 7, 9])
    for processes in (1, 2, 3, 4):
        splits = [Split(rank, processes) for rank in range(processes)]
        shares = [split.own(whole) for split in splits]
        assert sorted(torch.cat(shares).tolist()) == whole.tolist()
        found = [share[split.places(chosen)] for split, share in zip(splits, shares, strict=True)]
        assert sorted(torch.cat(found).tolist()) == chosen.tolist()
    assert Split().total(torch.tensor(3.0)) == 3
