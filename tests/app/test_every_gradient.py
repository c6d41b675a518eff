"""Check that one step gives every trained parameter a gradient, whatever was chosen.

A parameter without one keeps trainer=ddp waiting, which does not look for such. One whose gradient
is always zero costs memory and is never trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from composing import compose_config
from crowd import make_crowd
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf
from placed import choices
from publishing import published, write_sdxl
from tiny import make_batch, make_recogniser, make_regressor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.sdxl import load_sdxl
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.objective.base import Term
from portraitlab.method.objective.lightning import LightningLoss
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.method.transform.base import Transform
from portraitlab.method.transform.clone_faces import CloneFaces
from portraitlab.training.build import build_model
from portraitlab.types import Batch

pytestmark = pytest.mark.slow

IN_PAIRS = ("ic_portrait", "in_context")
"""Choices that read two pictures side by side: tests/method/test_in_context.py trains them."""
SYSTEMS, FUSIONS, NETS = (
    [choice for group, choice in choices() if group == wanted and choice not in IN_PAIRS]
    for wanted in ("system", "fusion", "net")
)
NOBODY = ("adapter", "instantid", "photomaker", "ffrnet", "text_concat", "mmf")
"""Nets that are nothing without identity tokens."""
DRAWN_FOR = ("adapter", "photomaker", "flashface", "text_concat")
"""Nets for which a frozen ControlNet draws the control image."""


@dataclass(frozen=True)
class World:
    """The frozen models of the miniature, loaded once, and what trains around them.

    parts: fusion, cond and net of the main job; chosen: of other choices. small: an SDXL in which
    a step takes no time, for all that is only wired, and for what it has that others have not.
    """

    parts: dict[str, Any]
    backbone: Backbone
    small: Backbone
    encoder: FaceEncoder
    chosen: dict[tuple[str, str], Any]

    def batch(self, backbone: Backbone, crowd: bool = False) -> Batch:
        encoder = self.encoder
        dims = (encoder.local_dim, encoder.global_dim, encoder.local_length)
        given: dict[str, Any] = {"dims": dims, "latents": True, "body": True}
        make = make_crowd if crowd else make_batch
        batch = make(batch=2, size=backbone.latent_size, **given)
        return replace(batch, text=backbone.encode_text(["a man in a red shirt", ""]))

    def missing(
        self,
        small: bool = False,
        term: Term | None = None,
        crowd: bool = False,
        transform: Transform | None = None,
        **parts: Any,
    ) -> tuple[int, list[str]]:
        """Count the trained parameters, and name those that a step of training leaves unchanged.

        crowd: pictures of two people, each in a region. transform: applied to the batch.
        Parameters that start at zero hold back all behind them for a step, and are moved before.
        """
        none = {"_target_": "portraitlab.method.transform.none.NoTransform"}
        config = OmegaConf.create({"seed": 0, "transform": none, **self.parts, **parts})
        backbone = deepcopy(self.small if small else self.backbone)
        model = build_model(config, backbone, self.encoder)
        for parameter in model.trained_parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        objective = Objective({"noise": NoiseLoss()} if term is None else {"face": term})
        batch = model.with_drawing(self.batch(backbone, crowd))
        batch = batch if transform is None else transform.apply(batch, step=0)
        losses = objective(model, batch, torch.Generator().manual_seed(0), progress=0.0)
        if losses["loss"].requires_grad:
            losses["loss"].backward()
        # trainer=ddp sends none from one process to the others.
        assert all(torch.equal(buffers[name], buffer) for name, buffer in model.named_buffers())
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        moved = {name for name, each in trained if each.grad is not None and each.grad.any()}
        return len(trained), [name for name, _ in trained if name not in moved]


def part(group: str, *overrides: str) -> Any:
    """A group's settings as overrides compose them."""
    config = compose_config("scale=mini", *overrides)
    return OmegaConf.to_container(config, resolve=True)[group]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    config = compose_config("scale=mini")
    parts = {group: part(group) for group in ("fusion", "cond", "net")}
    chosen = {
        (group, name): part(group, f"{group}={name}")
        for group, names in (("fusion", FUSIONS), ("net", NETS))
        for name in names
    }
    chosen["cond", "none"] = part("cond", "cond=none")
    backbone, encoder = instantiate(config.backbone), instantiate(config.encoder)
    places = [published("unet/config.json"), published("config.json")]
    folders = map(str, write_sdxl(tmp_path_factory.mktemp("sdxl") / "base"))
    small = load_sdxl(*places, *folders, variant="fp16", precision="float32")
    yield World(parts, backbone, small, encoder, chosen)
    HydraConfig.instance().cfg = None


def as_at_full_size(net: dict[str, Any]) -> dict[str, Any]:
    """A net's settings as scale=sdxl has them; no ControlNet of the miniature's fits."""
    full = {"start": None, "controlnet": None, "reads_noise": True, "noise_gate": 0}
    full |= {"way_in": "pixels"}
    return net | {name: value for name, value in full.items() if name in net}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_net_with_every_fusion(world: World, fusion: str, net: str) -> None:
    way_in = as_at_full_size(world.chosen["net", net])
    parts = {"fusion": world.chosen["fusion", fusion], "net": way_in}
    if net in DRAWN_FOR:
        parts["cond"] = world.chosen["cond", "none"]
    if net in NOBODY and fusion == "none":
        with pytest.raises(Exception, match="with fusion=none"):
            world.missing(small=True, **parts)
        return
    count, missing = world.missing(small=True, **parts)
    assert not missing
    assert (count > 0) is (net != "none")


@pytest.mark.parametrize("net", NETS)
def test_every_net(world: World, net: str) -> None:
    count, missing = world.missing(net=world.chosen["net", net])
    assert not missing
    assert (count > 0) is (net != "none")


@pytest.mark.parametrize("net", sorted({*NETS} - {"controlnet"}))
def test_every_net_without_a_control_image(world: World, net: str) -> None:
    count, missing = world.missing(net=world.chosen["net", net], cond=world.chosen["cond", "none"])
    assert not missing
    assert (count > 0) is (net != "none")


CUSTOMISED = {"dreambooth", "custom_diffusion"}
"""Systems that train for each person alone, before drawing."""


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system(world: World, system: str) -> None:
    parts = {group: part(group, f"system={system}") for group in world.parts}
    count, missing = world.missing(**parts)
    assert (count > 0) is (system not in CUSTOMISED)
    assert not missing
    parts["net"] = as_at_full_size(parts["net"])
    if "controlnet" in parts["net"]:
        parts["cond"] = world.chosen["cond", "none"]
    count, missing = world.missing(small=True, **parts)
    assert (count > 0) is (system not in CUSTOMISED)
    assert not missing


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("net", [*sorted({*NOBODY} - {"photomaker"}), "hifi_net"])
def test_a_crowd_trains_every_net_whole(world: World, net: str, small: bool) -> None:
    """Tokens that act in regions reach all weights, as those of one person do."""
    parts = {"net": world.chosen["net", net], "fusion": world.chosen["fusion", "resampler"]}
    parts["net"] = as_at_full_size(parts["net"]) if small else parts["net"]
    if net in DRAWN_FOR:
        parts["cond"] = world.chosen["cond", "none"]
    count, missing = world.missing(small=small, crowd=True, **parts)
    assert count > 0
    assert not missing


@pytest.mark.parametrize("small", [False, True])
def test_cloned_faces_train_every_weight_of_fpga(world: World, small: bool) -> None:
    parts = {group: part(group, "system=fpga") for group in world.parts}
    parts["net"] = as_at_full_size(parts["net"]) if small else parts["net"]
    count, missing = world.missing(small=small, transform=CloneFaces(), **parts)
    assert count > 0
    assert not missing


def test_the_lightning_branch_on_an_sdxl(world: World) -> None:
    parts = {group: part(group, "system=facesnap") for group in world.parts}
    parts["net"] = as_at_full_size(parts["net"])
    student = deepcopy(world.small.unet)
    term = LightningLoss(make_recogniser(), make_regressor(), student, threshold=0.0)
    count, missing = world.missing(small=True, term=term, **parts)
    assert count > 0
    assert not missing
