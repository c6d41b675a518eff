"""Batches on several cores: in order, each on one core, with the numbers of one core."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from portraitlab.support.side_by_side import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_order_and_each_was_computed_on_one_core(threads: int) -> None:
    seen = set()

    def work(part: int) -> int:
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        assert not torch.is_grad_enabled()
        return part * part

    assert list(side_by_side(work, range(20), CPU)) == [part * part for part in range(20)]
    assert {count for _, count in seen} == {1}
    assert torch.get_num_threads() == threads
    seen.clear()
    list(side_by_side(work, range(5), CPU, concurrent=False))
    assert seen == {(threading.current_thread().name, threads)}


def test_several_cores_give_the_numbers_of_one(threads: int, tiny_backbone) -> None:
    backbone = tiny_backbone()
    images = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for precision in ("32-true", "bf16-mixed"):
        together = list(side_by_side(backbone.encode, images.split(4), CPU, precision))
        torch.set_num_threads(1)
        alone = list(side_by_side(backbone.encode, images.split(4), CPU, precision))
        torch.set_num_threads(threads)
        assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_parts_are_taken_as_they_are_needed_and_an_error_reaches_the_caller(threads: int) -> None:
    taken = []

    def parts() -> Iterator[int]:
        for part in range(100):
            taken.append(part)
            yield part

    def work(part: int) -> int:
        if part == 4:
            raise KeyError(part)
        return part

    results = side_by_side(work, parts(), CPU)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        next(results)
    assert len(taken) < 20
    assert torch.get_num_threads() == threads
