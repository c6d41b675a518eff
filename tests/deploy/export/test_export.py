"""Export a trained run, and draw with the export the pictures that the run itself draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import ControlNetModel, DiffusionPipeline
from exporting import settings_of
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file

from portraitlab.app.experiment import Bench
from portraitlab.app.task.sample import SamplePortraits
from portraitlab.app.task.train import Train
from portraitlab.deploy.export.card import model_card
from portraitlab.deploy.export.folder import read_export
from portraitlab.deploy.export.run import export_run
from portraitlab.deploy.pipeline import PortraitPipeline
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.runs.status import write_status

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def config(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """A training of seconds on a folder of photos, scored by one metric.

    It encodes and draws in single precision, as an export does.
    """
    place = tmp_path_factory.mktemp("trained")
    data = ("data=folder", f"data.root={photos}", "refs=2", "select=angle", "metrics=sim_f")
    data += ("precision=32-true",)
    places = (f"runs={place / 'runs'}", f"cache={place / 'cache'}")
    return OmegaConf.create(settings_of("logger=none", *data, *places))


@pytest.fixture(scope="module")
def run(config: DictConfig) -> Run:
    Train()(config)
    return Run.of(plain(config))


@pytest.fixture(scope="module")
def out(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "deeper" / "out"
    export_run(run.folder, folder, data_licence="for tests alone")
    return folder


def test_the_stock_loader_gives_the_residuals_of_the_run(
    config: DictConfig, run: Run, out: Path
) -> None:
    stock, info = ControlNetModel.from_pretrained(out / "controlnet", output_loading_info=True)
    assert not any(info.values()), info
    bench = Bench.of(config)
    bench.load(run)
    model = bench.parts.model
    batch, _ = next(bench.scoring.batches(1))
    timesteps = torch.tensor([600])
    noisy = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        condition = model.condition(batch)
        ours = model.net(noisy, timesteps, condition)
        assert condition.tokens is not None
        down, mid = stock(
            noisy,
            timesteps,
            encoder_hidden_states=condition.tokens.tokens,
            controlnet_cond=condition.drawing - model.net.empty_drawing,
            conditioning_scale=float(model.net.gate(timesteps)),
            return_dict=False,
        )
    assert ours.down is not None
    assert ours.mid is not None
    assert ours.mid.std() > 0.01
    torch.testing.assert_close([*ours.down, ours.mid], [*down, mid], rtol=1e-3, atol=1e-4)


def test_pipeline_and_run_draw_the_same(config: DictConfig, out: Path) -> None:
    """Draw from the photos' files the picture of task=sample, through the same sampler."""
    folder = Path(SamplePortraits(count=1)(config)["folder"])
    drawn = np.asarray(Image.open(next(folder.glob("0000-*.png")))).astype(int)
    bench = Bench.of(config)
    (sample, *_), store = bench.scoring.samples, bench.photos.store
    root = Path(config.data.root)
    files = [root / store.identity[row] / store.name[row] for row in range(len(store))]
    pipe = PortraitPipeline.from_pretrained(out)
    references = [Image.open(files[row]) for row in sample.references]
    target = Image.open(files[sample.target])
    (again,) = pipe(references, target, sample.caption, seed=sample.seed)
    assert np.abs(np.asarray(again).astype(int) - drawn).max() <= 1
    (other,) = pipe(references[:1], references[0], sample.caption, seed=sample.seed)
    assert np.abs(np.asarray(other).astype(int) - drawn).max() > 1  # it is not the noise alone


def test_trained_weights_are_restored_to_the_bit(run: Run, out: Path) -> None:
    state = PortraitPipeline.from_pretrained(out).model.trained_state_dict()
    trained = run.read_weights()
    assert state.keys() == trained.keys()
    assert all(torch.equal(state[name], trained[name]) for name in trained)


def test_the_folder_describes_itself(run: Run, out: Path, photos: Path) -> None:
    assert len({path.stat().st_mode for path in out.rglob("*.*")}) == 1, "all as the umask says"
    texts = [path.read_text() for path in out.rglob("*") if path.suffix in (".json", ".md")]
    assert len(texts) == 6
    for place in (photos, run.folder.parents[2]):
        assert not any(str(place) in text for text in texts)
    card = (out / "README.md").read_text()
    _, front, rest = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["library_name"] == "portraitlab"  # as long as diffusers alone cannot load it
    with pytest.raises(AttributeError, match="PortraitPipeline"):
        DiffusionPipeline.from_pretrained(out)
    assert "Only this class loads the folder as a whole" in rest
    assert metadata["pipeline_tag"] == "text-to-image"
    record = run.record()
    assert record is not None
    assert f"| sim_f ↑ | {record['metrics']['sim_f']['value']:.3f} |" in rest
    assert f"| run | {run.key} |" in rest
    assert "for tests alone" in rest
    index = json.loads((out / "model_index.json").read_text())
    assert index["_class_name"] == "PortraitPipeline"
    assert index["controlnet"] == ["diffusers", "ControlNetModel"]
    about = read_export(out).about
    assert about["key"] == run.key
    assert about["commit"] == json.loads((run.folder / "origin.json").read_text())["commit"]


def test_the_card_names_needed_files_and_licences() -> None:
    config = settings_of(
        *("backbone=sdxl", "encoder=insightface", "encoder.root=packs", "clip=vit_l14"),
        *("face3d=flame", "face3d.root=flame", "sampler=sdxl_lightning", "data=folder"),
        *("data.root=photos", "matting=onnx", "matting.weights=matte.onnx"),
    )
    facts = {"key": "0" * 8, "commit": None, "dtype": "float32"}
    card = model_card(config, {"metrics": {}}, facts, stock=True)
    places = ("encoder.root", "encoder.face3d.root", "cond.face_model.root", "matting.weights")
    assert "".join(f" --set {name}=PATH" for name in places) in card
    assert ", ".join(f'"{name}": "PATH"' for name in places) in card
    assert "| drawn for the figures by | sdxl_lightning, 8 steps |" in card
    licences = card.partition("## Licences\n\n")[2].partition("\n\n")[0].splitlines()
    assert licences == [
        "- base: stabilityai/stable-diffusion-xl-base-1.0, CreativeML Open RAIL++-M",
        "- face encoder, needed to use this: insightface's packs are for non-commercial research "
        "only",
        "- 3D face model, needed to use this: FLAME and DECA, for non-commercial research only",
        "- matting, needed to use this: by the licence of its weights",
        "- needed to use this: madebyollin/sdxl-vae-fp16-fix, MIT",
        "- needed to use this: openai/clip-vit-large-patch14, MIT",
        "- needed to use this: ByteDance/SDXL-Lightning, CreativeML Open RAIL++-M",
        "- photos it was trained on: not stated: whoever publishes this must say what the photos' "
        "owners allow",
    ]


@pytest.mark.parametrize(
    ("overrides", "image"),
    [
        ((), "the latents of the control image, less those of a black one, and"),
        (("net.way_in=pixels", "net.reads_noise=true"), "the control image in [0, 1] and"),
    ],
)
def test_the_card_of_ffrnet_names_its_way_in(overrides: tuple[str, ...], image: str) -> None:
    config = settings_of("net=ffrnet", *overrides)
    facts = {"key": "0" * 8, "commit": None, "dtype": "float32"}
    card = model_card(config, {"metrics": {}}, facts, stock=True)
    parts = " ".join(card.partition("## Parts\n\n")[2].partition("\n\n")[0].split())
    assert f"It reads {image} identity tokens in place of the prompt's; a noise gate" in parts
    assert "net/` holds" not in parts


def test_the_card_names_edits_of_the_scored_portraits() -> None:
    facts = {"key": "0" * 8, "commit": None, "dtype": "float32"}
    cards = [
        model_card(settings_of(*overrides), {"metrics": {}}, facts, stock=False)
        for overrides in ((), ("customise=dreambooth", "edit=diir"))
    ]
    lines = [
        f"| for the figures also, and not in this folder, {choice} |"
        for choice in ("customise | dreambooth", "edit | diir")
    ]
    assert [[line in card for line in lines] for card in cards] == [[False] * 2, [True] * 2]


def test_the_card_of_multi_mode_fusion_names_the_limits_of_the_stock_class() -> None:
    config = settings_of("net=mmf")
    facts = {"key": "0" * 8, "commit": None, "dtype": "float32"}
    card = model_card(config, {"metrics": {}}, facts, stock=True)
    parts = " ".join(card.partition("## Parts\n\n")[2].partition("\n\n")[0].split())
    assert "and the prompt alone, without the added attention to identity tokens" in parts
    assert "in place of the prompt's" not in parts


def test_a_run_is_exported_by_its_name_in_half_precision_and_draws(
    portraitlab: Command, run: Run, files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()  # empty is as good as new
    runs = ("--runs", run.folder.parents[1])
    code, output, _ = portraitlab("export", run.key, out, "--dtype", "float16", *runs)
    assert code == 0
    assert output.startswith(f"exported: {out}\n")
    written = sorted(out.glob("*/*.safetensors"))
    assert [file.parent.name for file in written] == ["controlnet", "fusion"]
    tensors = [tensor for file in written for tensor in load_file(file).values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    state = PortraitPipeline.from_pretrained(out).model.trained_state_dict()
    for name, value in run.read_weights().items():
        assert state[name].dtype == torch.float32
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-6)
    given = ("--refs", *files[:2], "--target", files[2], "--out", tmp_path / "drawn")
    code, output, problem = portraitlab("generate", out, *given, "--prompt", "a person in a coat")
    assert (code, problem) == (0, "")
    with Image.open(output.strip()) as picture:
        assert picture.size == (64, 64)
        assert json.loads(picture.text["portraitlab"])["run"] == run.key


def test_a_failed_export_leaves_nothing_behind(
    portraitlab: Command, run: Run, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "kept.txt").write_text("mine")
    code, _, problem = portraitlab("export", run.folder, full)
    assert (code, "is there already and not empty; give another folder" in problem) == (1, True)
    assert (full / "kept.txt").read_text() == "mine"
    code, _, problem = portraitlab("export", run.folder, full / "kept.txt" / "new")
    assert (code, problem) == (1, f"[Errno 17] File exists: '{full / 'kept.txt'}'\n")
    copy = tmp_path / "runs" / "hifi_portrait" / run.folder.name
    shutil.copytree(run.folder, copy)
    write_status(copy, "preempted", error="stopped by SIGTERM")
    code, _, problem = portraitlab("export", copy, tmp_path / "new")
    assert code == 1
    assert "is preempted (stopped by SIGTERM; the same command resumes it), and only" in problem
    write_status(copy, "done")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, _, problem = portraitlab("export", copy, tmp_path / "new")
    assert (code, "are damaged; train them again with fresh=true" in problem) == (1, True)
    weights.unlink()
    code, _, problem = portraitlab("export", copy, tmp_path / "new")
    assert (code, "model.safetensors is not there" in problem) == (1, True)
    code, _, problem = portraitlab(
        "export", "nobody", tmp_path / "new", "--runs", tmp_path / "runs"
    )
    assert (code, "no run 'nobody': it is neither a folder nor" in problem) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "runs"]
