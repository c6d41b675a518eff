"""Bad input ends with one message (value, place, remedy), exit code 1 and nothing lost."""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from placed import ROOT

pytestmark = pytest.mark.slow

LIGHTNING = ("pytorch", "fabric")


@pytest.fixture
def as_logged() -> Iterator[None]:
    """Messages after the test go where they went before it.

    Hydra sends them to a standard output that pytest closes at the test's end.
    """
    names = (None, "portraitlab", *(f"lightning.{name}.utilities.rank_zero" for name in LIGHTNING))
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture
def main(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    as_logged: None,
    cache: Path,
    tmp_path: Path,
):
    """run.py, run as a script in this process: exit code and output."""

    def call(*arguments: str) -> tuple[object, str]:
        places = ("scale=smoke", "logger=none", f"cache={cache}", f"runs={tmp_path / 'runs'}")
        monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py"), *arguments, *places])
        capfd.readouterr()
        try:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        except SystemExit as end:
            captured = capfd.readouterr()
            closing = end.code if isinstance(end.code, str) else ""
            return (1 if closing else end.code), captured.out + captured.err + closing
        return 0, capfd.readouterr().out

    return call


IN_A_STEP = (["optimiser.learning_rate=1e38"], ["system=fpga", "net=adapter"])
"""Trainings that fail in a step."""
NO_WEIGHTS = "backbone.folder={_target_: pathlib.Path, _args_: [nowhere]}"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fusion=foo"], ["fusion/foo", "concat", "refiner"]),
        (["nothing=1"], ["nothing"]),
        (["data=folder", "data.root=nowhere"], ["nowhere", "data.root"]),
        (["data=folder"], ["data.root has no value", "data.root=VALUE"]),
        (
            ["encoder=insightface", "encoder.root=packs", "face3d=bfm", "cond=landmarks"],
            ["face3d.root has no value", "face3d.root=VALUE", "--help"],
        ),
        (["task=cost", "encoder.minimum_score='???'"], ["encoder.minimum_score has no value"]),
        (
            ["encoder=insightface", "encoder.root=nowhere", "cond=keypoints"],
            ["nowhere", "tag/v0.7"],
        ),
        (["encoder=sface"], ["cond=landmarks needs 3D", "face3d=bfm"]),
        (["sampler=sdxl_lightning", "sampler.steps=3"], ["sampler.steps is 3", "8, 4, 2"]),
        ([f"+{NO_WEIGHTS}"], ["nowhere", "foundation.json", "missing", "train"]),
        (["refs=7"], ["refs=7", "1 to 6"]),
        (["system=facesnap", "refs=2"], ["refs=2", "give refs=1", "most_refs=null"]),
        (["paper=facesnap", "refs=2"], ["refs=2", "give refs=1", "most_refs=null"]),
        (["refs=two"], ["refs=two", "whole number"]),
        (["refs=6", "scale.world.photos_per_identity=5"], ["refs=6"]),
        (["refs=6", "scale.world.score_photos=6"], ["refs=6"]),
        (["optimiser.learning_rate=1e38"], ["not finite at step", "learning_rate"]),
        (["net=adapter", "fusion=none"], ["no identity tokens", "choose a fusion or net=none"]),
        (["net=ffrnet", "net.way_in=pixels"], ["net.reads_noise=true", "net.way_in=latents"]),
        (["net=mmf", "fusion=none"], ["no identity tokens to read", "net=controlnet"]),
        (["net=mmf", "net.way_in=pixels"], ["net.reads_noise=true", "net.way_in=latents"]),
        (["fusion=resampler", "fusion.heads=3"], ["fusion.heads=3", "choose a divisor"]),
        (["fusion=resampler", "fusion.tokens=0"], ["fusion.tokens=0: a whole number from 1"]),
        (["system=fpga", "cond.drawn=both"], ["cond.drawn=both: choose one of", "skeleton"]),
        (["system=fpga", "transform.every=0"], ["transform.every=0", "from 1", "transform=none"]),
        (
            ["system=fpga", "objective.terms.clone_faces.least=0"],
            ["clone_faces.least=0: a whole number from 1"],
        ),
        (["system=fpga", "net=adapter"], ["reads identity tokens", "net=mmf", "transform=none"]),
        (["net=adapter", "net.controlnet=null"], ["net=hifi_net", "cond=none"]),
        (["net=rep_controlnet", "fusion=none", "cond=none"], ["nothing to read", "net=none"]),
        (["net=rep_controlnet", "net.beta=much"], ["net.beta=much: a finite number"]),
        (["net=rep_controlnet", "net.way_in=words"], ["net.way_in=words", "pixels, latents"]),
        (["encoder=world", "sampler.steps=0"], ["sampler.steps=0: a whole number from 1"]),
        (["select=manual", "select.file=nowhere"], ["select.file=nowhere", "task=choose"]),
        (["select=manual", "data.split=test_look_alikes"], ["of identity 31", "task=choose"]),
        (
            ["+trainer.accumulate_grad_batches=2"],
            ["trainer.accumulate_grad_batches=2", "batch_size", "gradient_checkpointing"],
        ),
        (["trainer.max_steps=2"], ["trainer.max_steps=2", "budget.steps=4"]),
        (["trainer.precision=bf16-true"], ["trainer.precision=bf16-true", "bf16-mixed"]),
        (["trainer.precision=16-mixed"], ["trainer.precision=16-mixed", "bf16-mixed"]),
        (["task=cost", "trainer.precision=16"], ["trainer.precision=16", "quickest"]),
        (["trainer.devices=two"], ["trainer.devices=two", "whole number"]),
        (["trainer.devices=[2,3]"], ["trainer.devices=[2, 3]", "CUDA_VISIBLE_DEVICES=2,3"]),
        (["task=score"], ["no trained run", "task=train"]),
        (["task=sample", "task.run=nowhere"], ["nowhere", "task.run=FOLDER"]),
        (["task=sample", "task.count=0"], ["task.count=0"]),
        pytest.param(
            ["-m", "trainer.devices=2,3", "hydra/launcher=basic"],
            ["trainer.devices=2 with -m", "launcher=local"],
            marks=pytest.mark.fault(
                "several devices under a launcher of Hydra's own", "nothing: it is refused"
            ),
        ),
        (["-m", "refs=1,2", "task=sample"], ["task=sample cannot be swept", "task=train"]),
        (["-m", "refs=1,2", "jobs=0"], ["jobs=0", "jobs=NUMBER"]),
        (["-m", "refs=1,2", "jobs=500"], ["jobs=500", "cores"]),
        (["-m", "fusion=refiner,nothing"], ["fusion/nothing", "concat"]),
        pytest.param(
            ["-m", "fusion=refiner,concat", "fusion.layers=3"],
            ["fusion.layers", "not in struct"],
            marks=pytest.mark.fault(
                "an option of another choice in a sweep", "nothing: no job is begun"
            ),
        ),
        pytest.param(
            ["-m", "fusion=glob(nothing*)"],
            ["this sweep has no job", "fusion=refiner,concat"],
            marks=pytest.mark.fault("a sweep without a job", "nothing: it is refused"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_message_and_exit_code_1(
    main, arguments: list[str], parts: list[str], tmp_path: Path
) -> None:
    code, output = main(*arguments)
    assert code == 1, output
    # Hydra first repeats the overrides, which say nothing of what is wrong with them.
    message = "\n".join(line for line in output.splitlines() if "with overrides:" not in line)
    for part in parts:
        assert part in message
    assert "Traceback" not in output
    assert "Missing" not in output  # which is the word of a library
    assert len(output) < 4000
    # Only a training that fails in a step leaves a run; others leave neither a run nor a lock.
    left = [path for path in tmp_path.glob("runs/*/*") if path.parent.name != "sweeps"]
    assert bool(left) == (arguments in IN_A_STEP), left


def test_a_batch_that_devices_cannot_share_is_refused_before_models_are_loaded(
    main, tmp_path: Path
) -> None:
    code, output = main("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=3")
    assert code == 1
    assert "batch_size=2 does not divide by 3 devices" in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU, so asking for one is fine")
def test_a_gpu_that_is_not_there(main) -> None:
    code, output = main("trainer=gpu")
    assert code == 1
    assert "torch sees no GPU" in output
    assert "trainer=cpu" in output


@pytest.mark.fault("a loss that is not a number", "that run, with a message")
def test_a_nan_loss_loses_nothing_finished(main, tmp_path: Path) -> None:
    code, _ = main()
    assert code == 0
    (finished,) = (tmp_path / "runs" / "hifi_portrait").glob("*/")
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    code, output = main("optimiser.learning_rate=1e38")
    assert code == 1
    assert "not finite" in output
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
    failed = [each for each in finished.parent.glob("*/") if each != finished]
    assert '"failed"' in (failed[0] / "status.json").read_text()
    assert not (failed[0] / "metrics.json").exists()
