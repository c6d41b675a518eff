"""Tensor files have the permissions that the umask gives to other files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from portraitlab.support.tensor_files import write_tensors


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_the_umask_decides_who_reads_a_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = tmp_path / "weights.safetensors"
        write_tensors({"a": torch.arange(3.0)}, path, {"sum": "x"})
        write_tensors({"a": torch.ones(2)}, path)
        (tmp_path / "other").write_text("")
    finally:
        os.umask(before)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert torch.equal(load_file(path)["a"], torch.ones(2))
    assert {each.name for each in tmp_path.iterdir()} == {"weights.safetensors", "other"}
