"""RepControlNet: eqs. 5 and 6 of FPGA written slowly, merging, and what a run saves and exports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from denoised import denoising
from diffusers import UNet2DConditionModel
from publishing import write_student
from steering import TIMESTEPS, condition, noisy_latents
from tiny import make_backbone, make_batch, make_recogniser, make_regressor
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.data.features import Frozen
from portraitlab.data.testset import ScoringSet
from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.loras import lora_of
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.rep_controlnet import RepControlNet
from portraitlab.method.net.reparameterised import LayerPair, copies_in
from portraitlab.method.objective.alignment import AlignedLightningLoss
from portraitlab.method.objective.lightning import LightningLoss
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.method.select.random import RandomReference
from portraitlab.scoring.draw import draw
from portraitlab.scoring.drawing_cost import drawing_cost
from portraitlab.types import Condition, Injection

MakeBackbone = Callable[..., Backbone]
WAYS = ("pixels", "latents")


def trained(net: RepControlNet, seed: int = 1) -> RepControlNet:
    """A net after some training: no weight is where it started."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return net


def given(net: RepControlNet, backbone: Backbone) -> Condition:
    """A condition in the form that the net reads."""
    known = condition(backbone)
    drawing = known.drawing
    if net.pixels:
        shape = (2, 3, backbone.image_size, backbone.image_size)
        drawing = 2 * torch.rand(shape, generator=torch.Generator().manual_seed(3)) - 1
    drawing = net.read_drawing(drawing) if net.control else None
    return Condition(known.text, known.tokens if net.identity else None, drawing)


@torch.no_grad()
def predicted(net: RepControlNet, backbone: Backbone, known: Condition | None = None) -> Tensor:
    known = given(net, backbone) if known is None else known
    noisy = noisy_latents(backbone)
    return backbone.predict(noisy, TIMESTEPS, known.text, net(noisy, TIMESTEPS, known))


@torch.no_grad()
def bare(backbone: Backbone) -> Tensor:
    text = condition(backbone).text
    return backbone.predict(noisy_latents(backbone), TIMESTEPS, text, Injection())


def layers_of(unet: nn.Module) -> dict[str, Any]:
    """All convolutions and linear layers of a UNet by name."""
    return {
        name: layer
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def built_model(fusion: str = "global", cond: str = "keypoints", **settings: Any) -> PortraitModel:
    backbone = make_backbone()
    a_fusion = {"global": GlobalFusion, "none": NoFusion}[fusion](10, 12, backbone.text_dim)
    a_cond = KeypointCond() if cond == "keypoints" else NoCond()
    net = trained(RepControlNet(backbone, a_cond.draws, a_fusion.gives_tokens, **settings))
    return PortraitModel(backbone, a_fusion, a_cond, net).eval()


@torch.no_grad()
def paper_shaped(unet: UNet2DConditionModel, net: RepControlNet, known: Condition) -> Tensor:
    """Fig. 4 by hooks: each layer of a plain UNet adds what its copy makes of the same input."""
    copies, layers = copies_in(net.unet), layers_of(unet)
    assert copies.keys() == layers.keys()

    def added(name: str) -> Any:
        weight, bias = copies[name].weight, copies[name].bias

        def hook(layer: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
            if isinstance(layer, nn.Linear):
                out = out + functional.linear(inputs[0], weight, bias)
            else:
                out = out + functional.conv2d(inputs[0], weight, bias, layer.stride, layer.padding)
            return out + known.drawing if name == "conv_in" else out

        return hook

    noisy = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(added(name)))
        return unet(noisy, TIMESTEPS, known.text.words).sample


@pytest.mark.parametrize("way_in", WAYS)
def test_every_layer_adds_its_copy_and_the_first_the_control_image(
    tiny_backbone: MakeBackbone, way_in: Any
) -> None:
    """Without identity, whose attention has no copy."""
    backbone = tiny_backbone()
    net = trained(RepControlNet(backbone, True, False, way_in=way_in))
    known = given(net, backbone)
    slow = paper_shaped(backbone.unet, net, known)
    torch.testing.assert_close(predicted(net, backbone, known), slow, atol=1e-5, rtol=1e-4)
    assert (slow - bare(backbone)).abs().max() > 0.1


def test_copies_start_at_a_multiple_of_the_weights(tiny_backbone: MakeBackbone) -> None:
    """Eq. 5."""
    backbone = tiny_backbone()
    for ratio in (0.1, 0.0):
        net = RepControlNet(backbone, True, True, ratio=ratio)
        for name, copy in copies_in(net.unet).items():
            for kind, own in backbone.unet.get_submodule(name).named_parameters():
                assert torch.equal(copy.get_parameter(kind), ratio * own), name
        assert not any(each.any() for each in net.starting_at_zero())
        features = given(net, backbone).drawing
        assert features is not None
        assert not features.any()
    # At 0, only the identity's attention differs from the backbone.
    alone = RepControlNet(backbone, True, False, ratio=0.0)
    torch.testing.assert_close(predicted(alone, backbone), bare(backbone), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("way_in", WAYS)
@pytest.mark.parametrize(("control", "identity"), [(True, True), (True, False), (False, True)])
def test_merged_equals_unmerged(
    tiny_backbone: MakeBackbone, way_in: Any, control: bool, identity: bool
) -> None:
    backbone = tiny_backbone()
    net = trained(RepControlNet(backbone, control, identity, way_in=way_in))
    merged = net.for_drawing(backbone)
    assert not any(isinstance(each, LayerPair) for each in merged.unet.modules())
    slow, quick = predicted(net, backbone), predicted(merged, backbone)
    assert (slow - quick).abs().max() < 1e-4
    assert (quick - bare(backbone)).abs().max() > 0.1
    assert merged.for_drawing(backbone) is merged


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.27), (0.8, 1.5), (1, 0)])
def test_merged_weights_are_those_of_eq_6(
    tiny_backbone: MakeBackbone, alpha: float, beta: float
) -> None:
    """A public re-implementation rounds a beta of 0.27 to 0, and so draws without control."""
    backbone = tiny_backbone()
    net = trained(RepControlNet(backbone, True, False, alpha=alpha, beta=beta))
    plain, copies = net.merged_unet(backbone), copies_in(net.unet)
    for name, own in backbone.unet.named_parameters():
        layer, _, kind = name.rpartition(".")
        expected = own
        if layer in copies:
            expected = alpha * own + beta * copies[layer].get_parameter(kind)
        torch.testing.assert_close(plain.get_parameter(name), expected)
    drawn, alone = predicted(net.for_drawing(backbone), backbone), bare(backbone)
    assert (drawn - alone).abs().max() > 0.02  # at beta 0 by the control image's features alone
    without = predicted(
        RepControlNet(backbone, True, False, beta=0.0).for_drawing(backbone), backbone
    )
    assert torch.equal(without, alone)


def test_a_merged_unet_is_stock(tiny_backbone: MakeBackbone, tmp_path: Path) -> None:
    backbone = tiny_backbone()
    net = trained(RepControlNet(backbone, True, False, way_in="latents"))
    plain = net.merged_unet(backbone)
    assert type(plain) is UNet2DConditionModel
    assert {type(each).__module__.partition(".")[0] for each in plain.modules()} <= {
        "torch", "diffusers",
    }  # fmt: skip
    plain.save_pretrained(tmp_path)
    stock, found = UNet2DConditionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values()), found
    torch.testing.assert_close(stock.state_dict(), plain.state_dict(), atol=0, rtol=0)
    # The control image's features are all that another program must add.
    known = given(net, backbone)
    hook = stock.conv_in.register_forward_hook(lambda layer, inputs, out: out + known.drawing)
    with torch.no_grad():
        drawn = stock(noisy_latents(backbone), TIMESTEPS, known.text.words).sample
    hook.remove()
    torch.testing.assert_close(drawn, predicted(net, backbone), atol=1e-4, rtol=0)


def test_training_moves_every_copy_and_leaves_the_backbone(tiny_backbone: MakeBackbone) -> None:
    model, batch = built_model(), make_batch()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    alone = bare(model.backbone)
    optimiser = torch.optim.SGD(model.trained_parameters(), lr=0.1)
    model(batch, batch.latents, torch.tensor([3, 500, 999])).square().mean().backward()
    for copy in copies_in(model.net.unet).values():
        for parameter in copy.parameters():
            assert parameter.grad is not None
            assert parameter.grad.any()
    optimiser.step()
    assert all(each.grad is None for each in model.backbone.parameters())
    torch.testing.assert_close(model.backbone.state_dict(), before, atol=0, rtol=0)
    assert torch.equal(bare(model.backbone), alone)
    assert type(model.backbone.unet) is UNet2DConditionModel
    own = {type(each) for each in model.backbone.unet.attn_processors.values()}
    assert own == {type(each) for each in tiny_backbone().unet.attn_processors.values()}


def test_frozen_weights_are_the_backbone_s_and_not_saved() -> None:
    model = built_model()
    own = {id(each) for each in model.backbone.parameters()}
    frozen = [each for each in model.net.parameters() if not each.requires_grad]
    assert frozen
    assert all(id(each) in own for each in frozen)
    state = model.trained_state_dict()
    copies = {name for name in state if ".copy." in name}
    rest = {".".join(name.split(".")[:2]) for name in state.keys() - copies}
    assert rest == {"net.adapter", "net.condition_adapter"} | {
        f"fusion.{name}" for name, _ in model.fusion.named_children()
    }
    count = sum(
        each.numel()
        for layer in layers_of(model.backbone.unet).values()
        for each in layer.parameters()
    )
    assert sum(state[name].numel() for name in copies) == count
    # It loads into a model that draws the same.
    other = built_model()
    trained(other.net, seed=5)
    other.load_trained_state_dict(state)
    batch = make_batch()
    assert torch.equal(
        *(each(batch, batch.latents, torch.tensor([3, 500, 999])) for each in (model, other))
    )


@pytest.mark.parametrize("drops", ["everything", "prompt"])
def test_merged_weights_are_never_stale(drops: Any) -> None:
    """Weights that change by `data`, as an average's do, have no version that would show it."""
    model, batch = built_model(), make_batch()
    sampler = DDIM(steps=3, guidance=2.0, guidance_drops=drops)
    drawn = []
    for _ in range(2):
        quick = sampler.sample(model.for_drawing(), batch, [1, 2, 3])
        slow = sampler.sample(model, batch, [1, 2, 3])
        torch.testing.assert_close(quick, slow, atol=1e-3, rtol=0)
        drawn.append(quick)
        for parameter in model.trained_parameters():
            parameter.data.mul_(1.3)
    assert (drawn[0] - drawn[1]).abs().max() > 0.02


def test_scoring_draws_with_the_merged_unet_of_the_present_weights(
    world_data: Any, frozen: Frozen
) -> None:
    backbone, cpu = frozen.backbone, torch.device("cpu")
    net = trained(RepControlNet(backbone, True, False))
    model = PortraitModel(backbone, NoFusion(10, 12, 16), KeypointCond(), net)
    scoring = ScoringSet(world_data().score_photos(frozen), 2, RandomReference(), targets=1)
    sampler, ran = DDIM(steps=2, guidance=2.0), list[int]()
    for pair in (each for each in net.modules() if isinstance(each, LayerPair)):
        pair.register_forward_hook(lambda *call: ran.append(1))
    drawn = []
    for _ in range(2):
        drawing_cost(model, sampler, scoring, cpu, "32-true")
        drawn.append(draw(model, sampler, scoring, 2, cpu, precision="32-true").images)
        assert not ran
        for parameter in model.trained_parameters():
            parameter.data.mul_(1.3)
    assert (drawn[0] - drawn[1]).abs().max() > 0.01


def test_a_lora_of_the_backbone_acts_in_the_merged_unet(tmp_path: Path) -> None:
    model = built_model()
    backbone = model.backbone
    added = write_student(tmp_path, backbone.unet)
    (file,) = tmp_path.glob("*.safetensors")
    known = given(model.net, backbone)
    without = predicted(model.net.for_drawing(backbone), backbone, known)
    with lora_of(backbone.unet, file):
        merged = model.net.for_drawing(backbone)
        assert merged.unet is not backbone.unet
    drawn = predicted(merged, backbone, known)
    assert (drawn - without).abs().max() > 0.05
    again = predicted(model.net.for_drawing(backbone), backbone, known)
    assert torch.equal(again, without)
    with torch.no_grad():
        for name, value in added.items():
            backbone.unet.get_submodule(name).weight += value
    slow = predicted(model.net, backbone, known)
    torch.testing.assert_close(drawn, slow, atol=1e-4, rtol=1e-3)


def test_a_student_runs_with_the_copies() -> None:
    model, student = built_model("none"), make_backbone(seed=5).unet
    steered, known = model.with_unet(student), given(model.net, model.backbone)
    slow = paper_shaped(student, model.net, known)
    for net in (steered.net, steered.net.for_drawing(steered.backbone)):
        drawn = predicted(net, steered.backbone, known)
        torch.testing.assert_close(drawn, slow, atol=1e-4, rtol=1e-3)
    assert (slow - predicted(model.net, model.backbone, known)).abs().max() > 0.05
    own = {id(each) for each in model.net.parameters() if each.requires_grad}
    assert {id(each) for each in steered.net.parameters() if each.requires_grad} == own


@pytest.mark.parametrize("cond", ["keypoints", "none"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", [LightningLoss, AlignedLightningLoss])
def test_the_lightning_branch_trains_the_copies(kind: Any, checkpointing: bool, cond: str) -> None:
    model = built_model(cond=cond)
    if checkpointing:
        model.enable_gradient_checkpointing()
    term = kind(
        make_recogniser(), make_regressor(), make_backbone(seed=5).unet, threshold=0.0, steps=3,
        grad_last=2,
    )  # fmt: skip
    losses = term(denoising(model, make_batch()))
    total = sum(losses.values()) if isinstance(losses, dict) else losses
    total.backward()
    for copy in copies_in(model.net.unet).values():
        assert all(each.grad is not None and each.grad.any() for each in copy.parameters())
    if isinstance(losses, dict):
        assert losses["semantic"] > 0
        assert losses["layout"] > 0


@pytest.mark.parametrize("way_in", WAYS)
def test_a_control_image_in_another_form_is_refused(
    tiny_backbone: MakeBackbone, way_in: Any
) -> None:
    backbone = tiny_backbone()
    net = RepControlNet(backbone, True, True, way_in=way_in).for_drawing(backbone)
    drawing = torch.zeros(1, 4, 16, 16) if way_in == "pixels" else torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match=f"reads a control image as {way_in}"):
        net.read_drawing(drawing)


@pytest.mark.parametrize("name", ["ratio", "alpha", "beta"])
@pytest.mark.parametrize("value", ["0.27", float("nan"), True])
def test_bad_numbers_are_refused(tiny_backbone: MakeBackbone, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"net\.{name}=.*: a finite number is needed"):
        RepControlNet(tiny_backbone(), True, True, **{name: value})


def test_identity_tokens_alone_are_read_without_a_control_image(
    tiny_backbone: MakeBackbone,
) -> None:
    backbone = tiny_backbone()
    net = trained(RepControlNet(backbone, True, True))
    known = given(net, backbone)
    with_both = predicted(net, backbone, known)
    for part in ("tokens", "drawing"):
        one = replace(known, **{part: None})
        drawn = predicted(net, backbone, one)
        assert (drawn - with_both).abs().max() > 1e-3
        merged = predicted(net.for_drawing(backbone), backbone, one)
        torch.testing.assert_close(merged, drawn, atol=1e-4, rtol=0)
    assert net(noisy_latents(backbone), TIMESTEPS, Condition(known.text, None, None)) == Injection()
