"""scale=sdxl and scale=sd15: their cost, and every system on tiny models in the published files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from placed import REAL, ROOT
from publishing import (
    random_inception,
    write_clip,
    write_inception,
    write_sd15,
    write_sdxl,
    write_student,
)

from portraitlab.app.experiment import Bench
from portraitlab.app.task.cost import Cost
from portraitlab.app.task.score import ScoreRun
from portraitlab.app.task.train import Train
from portraitlab.data.batches import TrainingBatches
from portraitlab.launching.perform import perform
from portraitlab.support.hashes import file_digest
from portraitlab.training.module import PortraitModule

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]


SYSTEMS = ("hifi_portrait", "instantid", "ip_adapter", "photomaker", "flashface", "consistentid")
PIXELS = ("net.way_in=pixels", "net.reads_noise=true")
"""The way into FPGA's ControlNet at full size."""
SMALL_COST = ("task=cost", "scale=sd15", "backbone=world")
"""A cost of full size but for the backbone, whose cost is counted in half of the time."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    place = tmp_path_factory.mktemp("published")
    model, autoencoder = write_sdxl(place / "sdxl" / "model")
    small = write_sd15(place / "sd15")
    return {
        "sdxl": [f"backbone.folder={model}", f"backbone.autoencoder_folder={autoencoder}"],
        "sd15": [f"backbone.folder={small}"],
    }


@pytest.mark.parametrize(
    ("backbone", "system"),
    [
        *(("sdxl", system) for system in SYSTEMS),
        *(("sd15", system) for system in ("hifi_portrait", "fpga")),
    ],
)
def test_a_system_trains_a_step_and_draws_on_a_published_backbone(
    composed: Compose, cache: Path, folders: dict[str, list[str]], backbone: str, system: str
) -> None:
    config = composed(
        *("scale=smoke", "metrics=none", f"cache={cache}", f"system={system}"),
        *(f"backbone={backbone}", *folders[backbone]),
        *(PIXELS if system == "fpga" else ("cond=landmarks",)),
        # These fit the world's backbone alone; of what is there no net is left without control.
        *("scale.hifi_net.start=null", "scale.controlnet=null"),
        *(() if system in ("hifi_portrait", "instantid", "fpga") else ("cond=none",)),
    )
    bench = Bench.of(config)
    model = bench.parts.model
    module = PortraitModule(model, instantiate(config.objective), steps=4, learning_rate=1e-3)
    batch = TrainingBatches(bench.train_photos(), refs=4, batch_size=2, steps=1, seed=0)[0]
    batch = instantiate(config.transform).apply(model.with_drawing(batch), step=0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = module.objective(
            model, batch, generator=torch.Generator().manual_seed(0), progress=0.9, step=0
        )
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert ("clone_faces" in losses) is (system == "fpga")
    assert {each.dtype for each in model.trained_parameters()} == {torch.float32}
    given = next(iter(bench.scoring.batches(2)))[0] if system == "fpga" else batch
    drawn = bench.sampler.sample(model, given, seeds=[0, 1])
    assert drawn.dtype == torch.float32
    assert drawn.shape[1:] == (3, 32, 32)
    assert torch.isfinite(drawn).all()


def test_portraits_are_scored_as_the_paper_draws_them(
    composed: Compose, cache: Path, folders: dict[str, list[str]], tmp_path: Path
) -> None:
    small = ("scale=smoke", f"runs={tmp_path}", f"cache={cache}", "logger=none", "metrics=clip_f")
    small += ("scale.hifi_net.start=null",)
    common = (*small, "backbone=sdxl", *folders["sdxl"])
    plain = Train()(composed(*common, "sampler.steps=8", "sampler.guidance=1"))
    backbone = Bench.of(composed(*common), judged=False).parts.model.backbone
    write_student(tmp_path / "student", backbone.unet)
    student = ("sampler=sdxl_lightning", f"sampler.folder={tmp_path / 'student'}")
    scored = ScoreRun()(composed(*common, "task=score", *student))
    assert scored["key"] == plain["key"]
    assert scored["scoring"] != plain["scoring"]
    assert scored["sampler"] == "sdxl_lightning"
    own, other = sorted(tmp_path.glob("**/grid.png"), key=lambda path: len(path.parts))
    assert (own.parent / "scores" / scored["scoring"] / "grid.png") == other
    assert own.read_bytes() != other.read_bytes()
    # Before anything is trained.
    for wrong, message in (
        ((*common, *student, f"sampler.folder={tmp_path / 'none'}"), "folder=.*none: all of it"),
        ((*small, "backbone=sd15", *folders["sd15"], *student), "is not a LoRA of this base"),
    ):
        with pytest.raises(ValueError, match=message):
            Train()(composed(*wrong, "seed=1"))
    assert len(list(tmp_path.glob("**/grid.png"))) == 2


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photos and weights at {REAL}")
def test_real_photos_train_and_are_scored_by_models_of_real_faces(
    composed: Compose, folders: dict[str, list[str]], tmp_path: Path
) -> None:
    weights = REAL / "weights"
    inception = write_inception(random_inception(), tmp_path)
    known = weights / "mobilefacenet" / "mobilefacenet.pt"
    for source in sorted((REAL / "photos").iterdir()):
        if len(list(source.iterdir())) >= 6:
            folder = tmp_path / "photos" / source.name
            folder.mkdir(parents=True)
            for photo in sorted(source.iterdir())[:6]:
                (folder / photo.name).symlink_to(photo)
    config = composed(
        *("scale=smoke", "logger=none", f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}"),
        *("backbone=sdxl", *folders["sdxl"], "scale.hifi_net.start=null"),
        *("data=folder", f"data.root={tmp_path / 'photos'}", "data.test_share=0.5"),
        *("encoder=insightface", f"encoder.root={weights / 'insightface'}", "encoder.name=lab_mbf"),
        *("face3d=bfm", f"face3d.root={weights / 'threeddfa'}", "cond=landmarks"),
        *("recogniser=arcface", f"recogniser.weights={known}", "finder=encoder"),
        *("recogniser@judge.recogniser=arcface", f"judge.recogniser.weights={known}"),
        *("clip_pair=vit_l14", f"judge.clip.folder={write_clip(tmp_path / 'clip')}"),
        *("fid_features=inception", f"judge.fid_features.weights={inception}"),
        "scale.identity_loss.weight=1.0",
    )
    record = Train()(config)
    methods = {name: metric["method"] for name, metric in record["metrics"].items()}
    seen = f"MobileFaceNet (weights {file_digest(known)[:8]})"
    assert methods["sim_f"].startswith(f"cosine of {seen}'s embeddings")
    assert methods["exp"] == "RMSE of 3DDFA_V2's expression coefficients, each in its deviations"
    assert methods["clip_f"].startswith("cosine of CLIP (weights ")
    assert methods["clip_t"].startswith("cosine of CLIP (weights ")
    assert methods["fid"].startswith("clean-fid's Frechet distance of Inception-v3's features")
    assert None not in {record["metrics"][name]["value"] for name in ("clip_f", "clip_t", "fid")}
    stranger, same = (
        {name: record["bounds"][bound][name]["value"] for name in ("sim_f", "exp", "pose")}
        for bound in ("another identity", "real other photo")
    )
    assert same["sim_f"] > stranger["sim_f"] + 0.1  # of portraits 32 px wide
    for figures in (same, stranger):  # in deviations and radians, of people who face the camera
        assert 0.1 < figures["exp"] < 3
        assert 0.01 < figures["pose"] < 0.5
    # What a random autoencoder draws is no face.
    assert (record["faceless"], record["metrics"]["sim_f"]["value"]) == (record["images"], 0)


@pytest.mark.parametrize(
    ("overrides", "parameters", "products", "layers", "operations"),
    [
        # FPGA, Table 5: millions of parameters; multiply-adds, and operations, which are twice as
        # many, of one step of SD1.5, both printed to two decimals. Between them what hooks on all
        # Conv2d and Linear of diffusers' own UNet2DConditionModel and ControlNetModel count.
        (["net=none", "fusion=none", "cond=none"], 1066, 0.34, 338_610_585_600, 0.68),
        (["net=controlnet", "fusion=none"], 1427, 0.46, 455_032_258_560, 0.91),
        # Merged: SD1.5, and once a portrait the eight convolutions of ControlNet's embedding.
        (
            ["net=rep_controlnet", "fusion=none"],
            *(1067, 0.35, 338_610_585_600 + 7_361_003_520, 0.69),
        ),
    ],
)
def test_costs_are_those_that_fpga_prints(
    composed: Compose,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    parameters: int,
    products: float,
    layers: int,
    operations: float,
) -> None:
    config = composed("task=cost", "scale=sd15", *overrides)
    task = instantiate(config.task)
    assert isinstance(task, Cost)
    parts = task(config)["parts"]
    count = sum(part["trained"] + part["frozen"] for part in parts.values())
    assert count / 1e6 == pytest.approx(parameters, rel=0.001)
    step = sum(part["layers"] for name, part in parts.items() if name.startswith(("net", "UNet")))
    assert step == layers
    assert round(step / 1e12, 2) == products
    assert 2 * step / 1e12 == pytest.approx(operations, rel=0.005)
    output = capsys.readouterr().out
    assert f"all parameters: {parameters // 1000},{parameters % 1000:03}." in output
    assert "training, 1 on a device" in output


def test_the_cost_of_full_size_is_counted_without_weights(composed: Compose, capsys) -> None:
    config = composed("task=cost", "scale=sdxl", "task.batch_size=6", "trainer=gpu")
    costs = instantiate(config.task)(config)
    assert costs["parts"]["UNet"]["frozen"] == 2_567_463_684
    assert costs["parts"]["net"]["trained"] == pytest.approx(1.25e9, rel=0.01)
    assert "training, 6 on a device" in capsys.readouterr().out
    # As docs/training_at_scale.md prints it.
    page = (ROOT / "docs" / "training_at_scale.md").read_text()
    (row,) = re.findall(r"^\| `task.batch_size=6` \|.*\|$", page, re.MULTILINE)
    parts = ("weights", "gradients", "optimiser", "activations", "recomputed", "total")
    found = [f"{costs['memory'][name] / 2**30:.3g}" for name in parts]
    assert [cell.strip() for cell in row.split("|")[5:-1]] == found


def test_a_cost_needs_no_files_and_no_places_of_them(
    composed: Compose, tmp_path: Path, capsys
) -> None:
    page = (ROOT / "docs" / "full_size.md").read_text()
    (published,) = re.findall(
        r"^    python run.py scale=sdxl (trainer=ddp .*)$", page, re.MULTILINE
    )
    runs = tmp_path / "runs"
    costs = [
        perform(composed(*SMALL_COST, f"runs={runs}", *overrides))
        for overrides in (
            published.split(),
            ["encoder=insightface", "clip=vit_l14", "face3d=flame", "data=folder"],
        )
    ]
    assert costs[0]["parts"] == costs[1]["parts"]
    assert "257 local ones of 1024, a global one of 512" in capsys.readouterr().out
    assert not runs.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "encoder=world: 65 local ones of 160, a global one of 128\n"),
        (
            ["encoder=insightface", "encoder.root=no", "clip=vit_l14"],
            "257 local ones of 1024, a global one of 512 (published models as pub",
        ),
        (
            ["encoder=sface", "clip=vit_h14", "clip.tokens=pooled"],
            "sface: 1 local ones of 1280, a global one of 128 (published models as pub",
        ),
    ],
)
def test_features_are_counted_for_an_encoder_without_its_weights(
    composed: Compose, capsys, overrides: list[str], message: str
) -> None:
    config = composed(*SMALL_COST, *overrides)
    costs = instantiate(config.task)(config)
    assert message in capsys.readouterr().out
    assert costs["parts"]["fusion"]["trained"] > 1e6


@pytest.mark.parametrize("size", [0, 1.5, "six"])
def test_a_batch_of_no_whole_number_is_refused(size: object) -> None:
    with pytest.raises(
        ValueError, match=rf"task\.batch_size={size}: a whole number from 1 is needed"
    ):
        Cost(batch_size=size)  # type: ignore[arg-type]


def test_full_size_has_the_papers_numbers(composed: Compose) -> None:
    config = composed("scale=sdxl", "budget=full")
    assert config.backbone._target_.endswith("load_sdxl")
    assert (config.batch_size, config.optimiser.learning_rate) == (24, 2e-5)
    assert (config.fusion.layers, config.fusion.learnable_tokens) == (5, 32)
    assert (config.budget.steps, config.refs) == (800_000, 4)
    assert config.objective.terms.identity.weight == 0.1
    face = composed("scale=sdxl", "net=ffrnet").net  # FaceSnap's ControlNet reads pixels
    assert (face.way_in, face.reads_noise, face.start) == ("pixels", True, None)
    small = composed("scale=sd15")
    assert small.backbone._target_.endswith("load_sd15")
    assert 768 % small.fusion.heads == 0
