"""Every choice of every component group built from the configuration, then run both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from placed import ROOT, SLOTS, choices

from portraitlab.app.experiment import Bench
from portraitlab.data.batches import TrainingBatches
from portraitlab.method.customise.dreambooth import DreamBooth
from portraitlab.method.model import PortraitModel
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.scoring.draw import draw
from portraitlab.training.module import PortraitModule
from portraitlab.types import Batch
from portraitlab.world.pretrained import load_controlnet

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]

GROUPS = {*SLOTS, "system"} - {"select"}  # selections are tried in tests/method/select


def tried() -> list[tuple[str, str]]:
    """Choices to run: systems, and what none of them is made of, by itself or by default."""
    conf = ROOT / "conf"
    made_of = {
        (name.removeprefix("override /"), choice)
        for path in (conf / "config.yaml", *(conf / "system").glob("*.yaml"))
        for default in yaml.safe_load(path.read_text())["defaults"]
        if isinstance(default, dict)
        for name, choice in default.items()
        if name != "system"
    }
    # Of SDXL alone, on which tests/app/test_full_size.py tries it.
    made_of.add(("sampler", "sdxl_lightning"))
    return [pair for pair in choices() if pair[0] in GROUPS and pair not in made_of]


@pytest.fixture(scope="module")
def batch_of() -> Callable[[Bench], Batch]:
    def first(bench: Bench) -> Batch:
        photos = bench.train_photos()
        return TrainingBatches(photos, refs=4, batch_size=2, steps=1, seed=0)[0]

    return first


def test_a_branch_starts_from_the_foundation_s_controlnet_or_from_the_unet(
    composed: Compose, cache: Path
) -> None:
    shipped = load_controlnet().state_dict()
    for override, start in (
        ("cond=landmarks", True),
        ("net.start=null", False),
        ("net=ffrnet", True),
    ):
        config = composed("scale=smoke", f"cache={cache}", override)
        net = Bench.of(config).parts.model.net
        own = net.controlnet.state_dict()
        assert (own.keys() == shipped.keys()) == start
        assert torch.equal(own["conv_in.weight"], shipped["conv_in.weight"]) == start


@pytest.mark.parametrize(("group", "choice"), tried())
def test_a_choice_trains_one_step_and_draws(
    composed: Compose, cache: Path, batch_of: Callable[[Bench], Batch], group: str, choice: str
) -> None:
    # The identity loss acts from the first step on, so that its path is run too.
    config = composed(
        *("scale=smoke", "metrics=none", f"cache={cache}", "scale.identity_loss.start_fraction=0"),
        *("scale.identity_loss.timestep_min=0", "scale.identity_loss.timestep_max=1000"),
        f"{group}={choice}",
    )
    bench = Bench.of(config)
    model = bench.parts.model
    objective = instantiate(config.objective)
    module = PortraitModule(model, objective, steps=4, learning_rate=1e-3)
    batch = model.transform.apply(model.with_drawing(batch_of(bench)), step=0)
    generator = torch.Generator().manual_seed(0)
    losses = module.objective(model, batch, generator=generator, progress=0.9, step=0)
    assert torch.isfinite(losses["loss"])
    trained = model.trained_parameters()
    if config.choices.net == "none":
        assert not trained
    else:
        losses["loss"].backward()
        assert any(parameter.grad is not None for parameter in trained)
    frozen = [p for p in module.parameters() if not p.requires_grad]
    assert all(parameter.grad is None for parameter in frozen)
    score, samples = next(iter(bench.scoring.batches(2)))
    images = bench.sampler.sample(model, score, [sample.seed for sample in samples])
    assert images.shape == (2, 3, 64, 64)
    assert torch.isfinite(images).all()


def test_each_person_is_customised_once_and_the_bare_backbone_never(
    composed: Compose, cache: Path, tmp_path: Path
) -> None:
    counted: list[str] = []

    class Counted(DreamBooth):
        def __call__(self, model: PortraitModel, batch: Batch) -> PortraitModel:
            counted.append(type(model.net).__name__)
            return super().__call__(model, batch)

    config = composed(
        *("scale=smoke", "system=ip_adapter", "cond=none", "customise=dreambooth"),
        *("data.targets=2", "metrics=intrusion", f"cache={cache}", f"runs={tmp_path}"),
    )
    customise = Counted(steps=1, learning_rate=1e-3)
    bench = replace(Bench.of(config), customise=customise)
    drawn = partial(draw, bench.parts.model, bench.sampler, bench.scoring, 64, bench.parts.device)
    bare = drawn(precision="32-true")
    own = drawn(precision="32-true", customise=customise)
    assert counted == ["Adapter"] * len({sample.identity for sample in bare.samples})
    assert len(bare.samples) == 2 * len(counted)
    assert not torch.allclose(own.images, bare.images, atol=1e-3)
    counted.clear()
    run = Run.of(plain(config))
    run.folder.mkdir(parents=True)
    bench.score(run)  # intrusion compares with what the backbone draws alone
    assert {*counted} == {"Adapter"}


@pytest.mark.parametrize("system", ["ip_adapter", "instantid", "photomaker", "pulid"])
def test_small_faces_teach_a_likeness_in_half_precision(
    composed: Compose, cache: Path, batch_of: Callable[[Bench], Batch], system: str
) -> None:
    config = composed(
        *("scale=smoke", "canvas=bodies", f"system={system}", "metrics=none", f"cache={cache}"),
        *("scale.identity_loss.timestep_min=0", "scale.identity_loss.timestep_max=1000"),
    )
    bench = Bench.of(config)
    model, objective = bench.parts.model, instantiate(config.objective)
    batch = model.with_drawing(batch_of(bench))
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective(model, batch, torch.Generator().manual_seed(0), progress=0.9)
    losses["lightning_identity" if system == "pulid" else "identity"].backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.net.parameters())


def test_every_number_of_references_is_drawn_with(composed: Compose, cache: Path) -> None:
    config = composed("scale=smoke", "metrics=none", f"cache={cache}")
    bench = Bench.of(config)
    for refs in range(1, 7):
        select = instantiate(config.select)
        scoring = bench.data.scoring_set(bench.photos, refs=refs, select=select)
        batch, _ = next(iter(scoring.batches(2)))
        assert batch.references.mask.shape == (2, refs)
        condition = bench.parts.model.condition(batch)
        assert condition.tokens is not None
        assert condition.tokens.tokens.shape[1] == refs * 3  # a global and two learnable tokens


def test_a_folder_of_photos_is_trained_on(composed: Compose, cache: Path, tmp_path: Path) -> None:
    from portraitlab.app.task.train import Train
    from portraitlab.world.render import render_photo

    for identity in range(6):
        folder = tmp_path / "photos" / f"person-{identity}"
        folder.mkdir(parents=True)
        for photo in range(7):
            pixels = render_photo(identity, photo, size=128).image
            Image.fromarray(pixels).save(folder / f"{photo}.png")
    config = composed(
        *("scale=smoke", "data=folder", f"data.root={tmp_path / 'photos'}", "data.test_share=0.4"),
        *("cond=keypoints", "logger=none", f"cache={cache}", f"runs={tmp_path / 'runs'}"),
    )
    record = Train()(config)
    assert record["identities"] == 2
    assert record["data"] == "folder"
    assert record["metrics"]["sim_f"]["samples"] == 2
