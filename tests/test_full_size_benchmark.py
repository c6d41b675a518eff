"""benchmarks/full_size.py: at small size it runs whole, and without a GPU it says so."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import diffusers
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from placed import ROOT

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


def test_at_small_size_every_way_is_measured(script, tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "folder" / "figures.json"
    arguments = ("--scale", "smoke", "--steps", "1", "--out", str(out))
    script(*arguments).main()
    record = json.loads(out.read_text())
    assert record["machine"]
    assert (record["pixels"], record["drawing_steps"]) == (64, 8)
    assert [row["batch"] for row in record["drawing"]] == [1]
    ways = [("noise", True), ("noise", False), ("noise and identity", True)]
    assert [
        (row["gradient_checkpointing"], row["objective"], row["beforehand"], row["batch"])
        for row in record["training"]
    ] == [(anew, *way, 1) for anew, way in product((False, True), ways)]
    for row in (*record["drawing"], *record["training"]):
        assert row["fits"]
        assert row["images_a_second"] == pytest.approx(row["batch"] / row["seconds"], rel=0.01)
    # A record stopped before its last row: only that row is measured, and none without time.
    del record["training"][-1]
    out.write_text(json.dumps(record))
    capsys.readouterr()
    with pytest.raises(SystemExit, match=r"after 0\.0 minutes; the same command resumes"):
        script(*arguments, "--minutes", "0").main()
    assert json.loads(out.read_text()) == record
    script(*arguments).main()
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert json.loads(out.read_text())["training"][:-1] == record["training"]
    assert record["diffusers"] == diffusers.__version__
    for name in ("machine", "commit", "diffusers"):
        out.write_text(json.dumps({**record, name: "another"}))
        with pytest.raises(SystemExit):
            script(*arguments).main()
        message = (
            f"has figures of {name} another (here: {record[name]}); give another --out, delete"
        )
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be measured")
def test_without_a_gpu_nothing_is_measured(script, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"Nothing was measured: torch sees no GPU .* --scale smoke"
    ):
        script("--out", str(tmp_path / "figures.json")).main()
    assert not (tmp_path / "figures.json").exists()


def test_the_largest_batch_that_fits_is_found(script) -> None:
    climb = script().climb
    for most_that_fits, most in product(range(20), (1, 2, 7, 16)):
        counts: list[int] = []

        def fits(count: int, largest: int = most_that_fits, counts: list[int] = counts) -> bool:
            counts.append(count)
            return count <= largest

        climb(fits, most)
        batches = {count for count in counts if count <= most_that_fits}
        assert max(batches, default=0) == min(most_that_fits, most)
        assert len(counts) == len(set(counts)) <= 2 * most.bit_length()
        assert {1, 2, 4, 8, 16} & set(range(1, max(batches, default=0) + 1)) <= batches


def test_a_file_that_is_no_record_or_cannot_be_one_is_named_before_anything_is_measured(
    script, tmp_path: Path
) -> None:
    file, about = tmp_path / "figures.json", {"machine": "this", "scale": "smoke"}
    for content in ('{"machine": "this", "ways": {}}', "[]", "{"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"figures\.json is not a record of this benchmark"):
            script().Record(file, about, float("inf"))
        assert file.read_text() == content
    for place in (tmp_path, file / "figures.json"):
        with pytest.raises(OSError, match=str(tmp_path)):
            script().Record(place, about, float("inf"))


def test_a_batch_that_fails_after_a_smaller_one_is_too_large(script, tmp_path: Path) -> None:
    def failing(error: Exception):
        def measure(count: int) -> dict:
            if count > 2:
                raise error
            return {"seconds": 1.0}

        return measure

    record = script().Record(tmp_path / "figures.json", {"machine": "this"}, float("inf"))
    question = ("training", {"objective": "noise"}, failing(RuntimeError("no room\nfor it")))
    assert [record.fits(*question, count) for count in (2, 3)] == [True, False]
    saved = json.loads((tmp_path / "figures.json").read_text())
    assert saved["training"][1] == {
        "objective": "noise", "batch": 3, "fits": False, "why": "no room"
    }  # fmt: skip
    # Known now, so nothing is measured.
    assert not record.fits("training", {"objective": "noise"}, failing(AssertionError()), 3)
    for error, fewest in ((ValueError("a mistake"), 3), (torch.AcceleratorError("a fault"), 3)):
        with pytest.raises(type(error)):
            record.fits("drawing", {}, failing(error), fewest)
    with pytest.raises(RuntimeError, match="a mistake"):
        record.fits("drawing", {}, lambda count: failing(RuntimeError("a mistake"))(count + 2), 1)
