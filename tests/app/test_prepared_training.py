"""A training on prepared photos: the command prepares them, and nothing frozen sees them again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from onnx_files import write_matting
from PIL import Image

from portraitlab.app.cli.main import main
from portraitlab.app.experiment import Bench
from portraitlab.app.task.score import ScoreRun
from portraitlab.app.task.train import Train
from portraitlab.data.batches import TrainingBatches
from portraitlab.data.prepared import PreparedPhotos
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.encoder.world import WorldEncoder
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.training.fitting import fit
from portraitlab.training.losses import read_losses
from portraitlab.training.module import PortraitModule
from portraitlab.world.render import render_photo

pytestmark = pytest.mark.slow

SETTINGS = ("scale=smoke", "logger=none", "data.test_share=0.4", "metrics=none")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six identities with seven photos of 64 px."""
    root = tmp_path_factory.mktemp("photos = of [people]")  # as Hydra would not take it unquoted
    for identity in range(6):
        (root / f"person-{identity}").mkdir()
        for photo in range(7):
            rendered = render_photo(identity, photo, size=64)
            Image.fromarray(rendered.image).save(root / f"person-{identity}" / f"{photo}.png")
    return root


@pytest.fixture(scope="module")
def out(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    options = ["--workers", "0", "--precision", "float32", "--shard", "10"]
    assert main(["data", "prepare", *options, str(root), str(out), "scale=smoke"]) == 0
    return out


def forbid(*_: object, **__: object) -> None:
    raise AssertionError("something frozen looked at a photo or a caption")


def test_training_decodes_no_picture_and_runs_no_encoder(
    composed: Callable[..., DictConfig],
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choices = ("net=adapter", "cond=none", "data=prepared", f"data.root={out}", "order=balanced")
    config = composed(*SETTINGS, *choices)
    bench = Bench.of(config)
    for name in ("find", "analyse", "encode"):
        monkeypatch.setattr(WorldEncoder, name, forbid)
    for name in ("encode", "encode_text"):
        monkeypatch.setattr(Backbone, name, forbid)
    monkeypatch.setattr(PreparedPhotos, "_decoded", forbid)
    monkeypatch.setattr(Image, "open", forbid)
    batches = TrainingBatches(bench.train_photos(), 4, 2, 4, seed=0, order=config.order)
    run = Run(tmp_path, "key", "scoring")
    assert fit(config, run, bench.parts, batches) is not None
    assert len(read_losses(run.losses)) == 4


def test_losses_are_those_of_the_folder(
    composed: Callable[..., DictConfig], cache: Path, root: Path, out: Path
) -> None:
    losses = {}
    for name, choices in (
        ("folder", ("data=folder", f"cache={cache}")),
        ("prepared", ("data=prepared",)),
    ):
        config = composed(*SETTINGS, *choices, "data.root=HERE", "cond=landmarks")
        config.data.root = str(root if name == "folder" else out)
        bench = Bench.of(config)
        batches = TrainingBatches(bench.train_photos(), refs=4, batch_size=4, steps=3, seed=0)
        model = bench.parts.model
        module = PortraitModule(model, instantiate(config.objective), steps=3, learning_rate=1e-3)
        losses[name] = [
            module.objective(
                model,
                batches[step],
                generator=torch.Generator().manual_seed(step),
                progress=0.9,
                step=step,
            )
            for step in range(3)
        ]
    assert {"loss", "noise", "identity"} <= set(losses["folder"][0])
    torch.testing.assert_close(losses["prepared"], losses["folder"], atol=1e-3, rtol=1e-3)


def test_the_whole_job_trains_and_scores(
    composed: Callable[..., DictConfig], out: Path, tmp_path: Path
) -> None:
    config = composed(*SETTINGS[:3], "data=prepared", f"data.root={out}", f"runs={tmp_path}")
    record = Train()(config)
    assert record["data"] == "prepared"
    assert record["identities"] == 2


def test_a_run_is_not_resumed_on_changed_photos(
    composed: Callable[..., DictConfig],
    root: Path,
    out: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos, store = tmp_path / "photos", tmp_path / "store"
    shutil.copytree(root, photos)
    shutil.copytree(out, store)
    config = composed(*SETTINGS, "data=prepared", f"data.root={store}", f"runs={tmp_path / 'runs'}")
    record = Train()(config)
    run = Run.of(plain(config))
    assert Train()(config) == record
    assert "changed" not in caplog.text
    late = photos / "person-6"
    shutil.copytree(photos / "person-5", late)
    for path in late.iterdir():
        Image.fromarray(render_photo(6, int(path.stem), size=64).image).save(path)
    options = ["--workers", "0", "--precision", "float32", "--shard", "10"]
    assert main(["data", "prepare", *options, str(photos), str(store), "scale=smoke"]) == 0
    for task in (Train(), ScoreRun()):
        caplog.clear()
        assert task(config) == record
        (line,) = [each for each in caplog.messages if "changed since" in each]
        assert str(run.folder) in line
        assert "fresh=true" in line
    (run.folder / "metrics.json").unlink()
    for task in (Train(), ScoreRun()):
        with pytest.raises(ValueError, match=r"changed since .* was started.*fresh=true"):
            task(config)
    run.weights.unlink()
    assert any(run.checkpoints.glob("*.ckpt"))
    with pytest.raises(ValueError, match=r"resuming would use other samples.*another runs=FOLDER"):
        Train()(config)
    shutil.rmtree(run.checkpoints)  # nothing to resume from
    assert Train()(config)["identities"] == 3
    caplog.clear()
    shutil.rmtree(store)
    Train()(config)
    assert "holds no prepared photos (no about.json)" in caplog.text


def test_another_choice_than_prepared_with_is_refused(
    composed: Callable[..., DictConfig], out: Path
) -> None:
    config = composed(*SETTINGS, "data=prepared", f"data.root={out}", "encoder.minimum_score=0.4")
    with pytest.raises(ValueError, match=r"prepared with another encoder, by scale=smoke\. Choose"):
        Bench.of(config)


def test_the_matting_of_the_photos_is_that_of_the_run_s_export(
    composed: Callable[..., DictConfig],
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, weights = tmp_path / "out", write_matting(tmp_path / "net.onnx", size=64)
    took = ("matting=onnx", f"matting.weights={weights}", "matting.size=64", "matting.threshold=0")
    taken = ("scale=smoke", "data.caption=somebody", "data.minimum_side=48", *took)
    assert main(["data", "prepare", "--workers", "0", str(root), str(out), *taken]) == 0
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "train with: " in each]
    given = line.split("run.py ")[1].split()
    assert given[2:] == ["scale=smoke", "data.minimum_side=48", *took]
    other = composed("scale=smoke", "data=prepared", f"data.root={out}")
    match = r"with another matting, minimum_side, by scale=smoke data\.minimum_side=48 matting=onnx"
    with pytest.raises(ValueError, match=match):
        Bench.of(other)
    config = composed(*SETTINGS[1:], *given, f"runs={tmp_path / 'runs'}")
    Train()(config)
    run, exported = Run.of(plain(config)), tmp_path / "exported"
    shutil.rmtree(out)
    assert main(["export", str(run.folder), str(exported)]) == 0
    about = json.loads((exported / "portraitlab.json").read_text())
    assert about["settings"]["matting"]["_target_"] == "portraitlab.faces.matting.onnx.OnnxMatting"
    assert about["settings"]["minimum_side"] == 48
    assert about["needed"] == ["matting.weights"]


def test_prepare_prints_no_training_command_for_too_few_people(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for person, number in (("person-0", 2), ("person-1", 1)):
        (photos / person).mkdir(parents=True)
        for photo in range(number):
            shutil.copy(root / person / f"{photo}.png", photos / person)
    command = ["data", "prepare", "--workers", "0", str(photos), str(out), "scale=smoke"]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "too few to train: two identities with two usable photos" in output
    assert "train with" not in output
    shutil.copy(root / "person-1" / "1.png", photos / "person-1")
    assert main(command) == 0
    output = capsys.readouterr().out
    assert f"train with: python run.py data=prepared data.root={out} scale=smoke" in output
    assert "too few" not in output


def test_prepare_refuses_unusable_overrides(root: Path, tmp_path: Path, capsys) -> None:
    place = [str(root), str(tmp_path / "out")]
    for override, message in (
        ("encoder=nobody", "Could not find 'encoder/nobody'"),
        ("face3d=bfm", "face3d.root has no value and needs one"),
        ("no override", "no override"),
        ("data=world", "data=world is not for preparing: ROOT is read as data=folder"),
        ("clip=vit_l14", "which encoder=world does not use"),
    ):
        assert main(["data", "prepare", *place, override]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
