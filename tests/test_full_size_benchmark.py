"""benchmarks/full_size.py: at small size it runs whole, and without a GPU it says so."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hydra.core.hydra_config import HydraConfig

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """The script's module, with a command line."""

    def called(*arguments: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
        monkeypatch.setattr(sys, "argv", ["full_size.py", *arguments])
        return importlib.import_module("full_size")

    yield called
    HydraConfig.instance().cfg = None


def test_at_small_size_every_way_is_measured(script, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    script("--scale", "smoke", "--steps", "1", "--out", str(out)).main()
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["machine"]
    assert (record["pixels"], record["drawing_steps"]) == (64, 8)
    assert [row["batch"] for row in record["drawing"]] == [1]
    ways = [("noise", True), ("noise", False), ("noise and identity", True)]
    assert [
        (row["gradient_checkpointing"], row["objective"], row["beforehand"], row["batch"])
        for row in record["training"]
    ] == [(anew, *way, 1) for anew, way in product((False, True), ways)]
    for row in (*record["drawing"], *record["training"]):
        assert row["images_a_second"] == pytest.approx(row["batch"] / row["seconds"], rel=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be measured")
def test_without_a_gpu_nothing_is_measured_and_it_says_so(script, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"Nothing was measured: torch sees no GPU .* --scale smoke"
    ):
        script("--out", str(tmp_path / "figures.json")).main()
    assert not (tmp_path / "figures.json").exists()


def test_the_largest_batch_that_fits_is_found(script) -> None:
    climb = script().climb
    for fits, most in product(range(20), (1, 2, 7, 16)):
        asked: list[int] = []

        def measure(count: int, fits: int = fits, asked: list[int] = asked) -> dict | None:
            asked.append(count)
            return {"batch": count} if count <= fits else None

        batches = [row["batch"] for row in climb(measure, most)]
        assert batches == sorted(set(batches))
        assert max(batches, default=0) == min(fits, most)
        assert len(asked) == len(set(asked)) <= 2 * most.bit_length()
        assert {1, 2, 4, 8, 16} & set(range(1, max(batches, default=0) + 1)) <= set(batches)
