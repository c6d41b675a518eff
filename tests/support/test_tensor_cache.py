"""Cached tensors are computed once, also by several at once, and are there whole or not at all."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from portraitlab.support.hashes import tensors_digest
from portraitlab.support.tensor_cache import cached_tensors


def test_of_several_at_once_one_computes_and_all_have_it(tmp_path: Path) -> None:
    computed: list[int] = []
    ready = threading.Barrier(4)

    def compute() -> dict[str, Tensor]:
        computed.append(1)
        time.sleep(0.3)  # the others arrive meanwhile
        return {"a": torch.arange(6.0).view(2, 3).T}

    def wanted(number: int) -> Tensor:
        ready.wait()
        return cached_tensors(tmp_path / "views", ["view", "x"], compute)["a"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(wanted, range(4)))
    assert computed == [1]
    assert all(torch.equal(each, torch.arange(6.0).view(2, 3).T) for each in found)
    cached_tensors(tmp_path / "views", ["view", "y"], compute)
    assert computed == [1, 1]


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fails() -> dict[str, Tensor]:
        raise KeyError

    with pytest.raises(KeyError):
        cached_tensors(tmp_path, ["view"], fails)
    assert not list(tmp_path.glob("[!.]*"))
    assert cached_tensors(tmp_path, ["view"], lambda: {"a": torch.ones(1)})["a"] == 1


@pytest.mark.parametrize("end", [None, -100])
def test_a_damaged_file_is_made_again(tmp_path: Path, caplog, end: int | None) -> None:
    def wanted(number: float) -> Tensor:
        computed = {"a": torch.full((50,), number), "b": torch.zeros(2)}
        return cached_tensors(tmp_path, ["view"], lambda: computed)["a"]

    assert wanted(1.0)[0] == 1
    assert wanted(2.0)[0] == 1
    (path,) = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content[:end])
    assert wanted(3.0)[0] == 3
    assert "is damaged and is made again" in caplog.text
    assert wanted(4.0)[0] == 3


def test_a_digest_is_of_numbers_shape_and_kind() -> None:
    one = torch.arange(6.0)
    others = [one.view(2, 3), one.int(), one + 1, one.bfloat16()]
    assert tensors_digest(one) == tensors_digest(one.clone())
    assert len({tensors_digest(each) for each in (one, *others)}) == 5
    assert tensors_digest(one, one) != tensors_digest(one)
