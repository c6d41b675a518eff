"""Check on a GPU without numbers that offloaded parts are on the device when they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from publishing import published as repository
from publishing import write_sdxl
from steering import published
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from portraitlab.deploy.controls import Control, WithControls
from portraitlab.deploy.cost import AllKnown
from portraitlab.deploy.offload import offloaded, stages_of
from portraitlab.diffusion.precisions import products_in
from portraitlab.diffusion.sdxl import load_sdxl
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.base import Fusion
from portraitlab.method.fusion.facial_parts import FacialPartsFusion
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.method.net.rep_controlnet import RepControlNet
from portraitlab.method.net.text_concat import TextConcat

GPU = torch.device("cuda", 0)
LEVELS = torch.tensor([500, 900])
NETS: dict[str, Callable[..., Any]] = {
    "instantid": InstantID,  # a HiFi-Net too
    "mmf": lambda b, *reads: MultiModeFusion(b, *reads, way_in="latents"),
    "flashface": lambda b, *reads: FlashFace(b, *reads, controlnet=published(b)),
    "photomaker": lambda b, *reads: PhotoMaker(b, *reads, rank=2, controlnet=published(b)),
    "rep_controlnet": lambda b, *reads: RepControlNet(b, *reads, way_in="latents"),
    "text_concat": lambda b, *reads: TextConcat(b, *reads, controlnet=published(b)),
}


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    base, autoencoder = write_sdxl(tmp_path_factory.mktemp("sdxl") / "base")
    return str(base), str(autoencoder)


@pytest.fixture(params=NETS)
def model(request: pytest.FixtureRequest, sdxl: tuple[str, str]) -> PortraitModel:
    """A net on a tiny SDXL, two text encoders and all, and a further ControlNet beside it."""
    places = [repository("unet/config.json"), repository("config.json")]
    backbone = load_sdxl(*places, *sdxl, variant="fp16", precision="float32")
    torch.manual_seed(1)
    fusion: Fusion = FaceRefiner(10, 12, 20, learnable_tokens=2, layers=2, heads=2)
    if request.param == "photomaker":
        fusion = FacialPartsFusion(10, 12, 20)
    elif request.param == "flashface":
        fusion = NoFusion(10, 12, 20)
    net = NETS[request.param](backbone, True, True)
    torch.manual_seed(2)
    for parameter in net.starting_at_zero():
        nn.init.normal_(parameter, std=0.2)
    control = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(4, 8))
    beside = WithControls(net, [Control(control, torch.rand(1, 3, 32, 32))])
    return PortraitModel(backbone, fusion, KeypointCond(), beside).eval()


@torch.no_grad()
def drawn(model: PortraitModel, batch: Any, device: torch.device) -> Tensor:
    """Call a model as the sampler does for a drawing."""
    text = model.backbone.encode_text(["abc", ""])
    given = replace(batch, text=text).to(device)
    with model.backbone.computing():
        condition = model.condition(given)
        prediction = model.predict(given.latents, LEVELS.to(device), condition)
        empty = replace(condition, text=model.backbone.encode_text(["", ""]), references=None)
        prediction = prediction + model.predict(given.latents, LEVELS.to(device), empty)
    return model.backbone.decode(prediction.float())


def test_stages_are_all_there_is_to_move(model: PortraitModel) -> None:
    stages = stages_of(model)
    staged = [id(each) for stage in stages.values() for each in stage.parameters()]
    assert len(staged) == len(set(staged))
    rest = {id(each) for each in model.parameters()} - set(staged)
    assert rest == {id(each) for each in model.cond.parameters()}
    buffers = {id(each) for stage in stages.values() for each in stage.buffers()}
    resting = {name for name, each in model.named_buffers() if id(each) not in buffers}
    assert resting == {"backbone.latent_scale", "backbone.latent_shift"}


@contextmanager
def without_numbers(model: PortraitModel) -> Iterator[None]:
    """Give tensors inside `with` a shape, a type and a device that may be absent, and no content.

    The model's for good, and as buffers: torch does not move parameters of that kind.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, AllKnown():
        for module in model.modules():
            for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
                module._parameters.pop(name, None)
                module._buffers[name] = None if tensor is None else mode.from_tensor(tensor.data)
        yield


def on_gpu(module: nn.Module) -> set[bool]:
    return {each.device.type == "cuda" for each in module.buffers()}


def test_every_layer_finds_its_weights_on_the_device_and_no_other_stages(
    model: PortraitModel, tiny_batch: Any
) -> None:
    batch = tiny_batch(batch=2, latents=True, dims=(10, 12, 5), coefficients=False)
    every = torch.ones(2, 4, dtype=torch.bool)  # how many there are is nothing without numbers
    batch = replace(batch, references=replace(batch.references, mask=every))
    batch = replace(batch, drawing=torch.randn(2, 4, 16, 16))
    stages, seen = stages_of(model), []
    for name, stage in stages.items():
        for part in stage.modules():
            part.register_forward_hook(
                lambda *call, name=name: seen.append(name) if seen[-1:] != [name] else None
            )
    with without_numbers(model):
        assert on_gpu(model) == {False}
        with pytest.raises(Exception, match="device"):
            drawn(model, batch, GPU)
        seen.clear()
        with offloaded(model, GPU, "model"):
            for stage in stages.values():
                assert on_gpu(stage) <= {False}
            # Mixing devices raises here, as it would there.
            assert drawn(model, batch, GPU).device == GPU
            assert seen[0] == "text"
            assert seen[-1] == "autoencoder"
            assert set(seen) == {*stages} - ({"fusion"} if not model.net.identity else set())
            for name, stage in stages.items():
                assert on_gpu(stage) <= {name == seen[-1]}
        assert on_gpu(model) == {False}


@pytest.mark.parametrize("mode", ["model", "sequential"])
def test_nothing_else_changes(model: PortraitModel, tiny_batch: Any, mode: Any) -> None:
    batch = tiny_batch(batch=2, latents=True, coefficients=False)
    cpu = torch.device("cpu")
    products_in(model.backbone.unet, torch.bfloat16)
    model.backbone.precision = torch.bfloat16
    names = {name: each.shape for name, each in model.named_parameters()}
    alone = drawn(model, batch, cpu)
    for _ in range(2):
        with offloaded(model, cpu, mode):
            waiting = {each.device.type for each in model.backbone.unet.parameters()}
            assert waiting == {"meta" if mode == "sequential" else "cpu"}
            assert torch.equal(drawn(model, batch, cpu), alone)
    assert {name: each.shape for name, each in model.named_parameters()} == names
    assert {each.device.type for each in model.parameters()} == {"cpu"}
    assert torch.equal(drawn(model, batch, cpu), alone)
    hooked = [m for m in model.modules() if hasattr(m, "_hf_hook") or m._forward_pre_hooks]
    assert not hooked


def test_all_is_back_after_an_error(model: PortraitModel) -> None:
    for mode in ("model", "sequential"):
        with (
            pytest.raises(ValueError, match="stopped"),
            offloaded(model, torch.device("cpu"), mode),
        ):
            raise ValueError("stopped")
        assert {each.device.type for each in model.parameters()} == {"cpu"}
    assert torch.is_autocast_cache_enabled()
