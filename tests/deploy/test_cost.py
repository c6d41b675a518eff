"""Compare the cost of a model with slow counts on one that computes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
from steering import published
from torch import Tensor, nn

from portraitlab.deploy.cost import PartCost, Sizes, _cost, part_costs, training_memory
from portraitlab.diffusion.precisions import cast_once
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.base import Fusion
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.controlnet import ControlNet
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.net.none import NoNet
from portraitlab.method.net.rep_controlnet import RepControlNet
from portraitlab.method.net.text_concat import TextConcat
from portraitlab.types import Injection

SIZES = Sizes(local_length=5, local_dim=10, global_dim=12, references=4)  # those of tiny batches

Make = Callable[[], PortraitModel]


@pytest.fixture(
    params=["hifi_net", "adapter", "controlnet", "flashface", "ffrnet", "text_concat", "mmf"]
)
def make(request: pytest.FixtureRequest, tiny_backbone: Any) -> Make:
    """Build the same model on each call."""

    def build() -> PortraitModel:
        backbone = tiny_backbone()
        fusion: Fusion = FaceRefiner(10, 12, 16, learnable_tokens=2, layers=2, heads=2)
        net: Net
        if request.param == "hifi_net":
            net = HiFiNet(backbone, True, True)
        elif request.param == "adapter":
            fusion = GlobalFusion(10, 12, 16)
            net = Adapter(backbone, True, True, controlnet=published(backbone))
        elif request.param == "ffrnet":
            net = FFRNet(backbone, True, True)
        elif request.param == "mmf":
            fusion = ResamplerFusion(10, 12, 16, layers=1, heads=2)
            net = MultiModeFusion(backbone, True, True)
        elif request.param == "text_concat":
            net = TextConcat(backbone, True, True, controlnet=published(backbone))
        elif request.param == "controlnet":
            fusion, net = NoFusion(10, 12, 16), ControlNet(backbone, True, False)
        else:
            fusion = NoFusion(10, 12, 16)
            net = FlashFace(backbone, True, False, controlnet=published(backbone))
        return PortraitModel(backbone, fusion, KeypointCond(), net)

    return build


def slow_layers(module: nn.Module, use: Callable[[], Any]) -> int:
    """Multiply-adds of a module's convolutions and linear layers, hook by hook."""
    counted = []

    def count(layer: Any, inputs: Any, out: Tensor) -> None:
        counted.append(out.numel() * prod(layer.weight.shape[1:]))

    layers = [each for each in module.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        use()
    for handle in handles:
        handle.remove()
    return sum(counted)


def test_parameters_are_all_counted_once_and_by_whether_they_are_trained(make: Make) -> None:
    model, costs = make(), part_costs(make(), SIZES)
    trained = sum(each.numel() for each in model.trained_parameters())
    every = sum(each.numel() for each in model.parameters())
    assert sum(part.trained for part in costs.values()) == trained > 0
    assert sum(part.frozen for part in costs.values()) == every - trained
    assert costs["net"].trained == sum(
        each.numel() for each in model.net.parameters() if each.requires_grad
    )


def test_layers_are_those_of_the_modules(make: Make, tiny_batch) -> None:
    model, costs = make(), part_costs(make(), SIZES)
    batch, level = tiny_batch(batch=1, latents=True), torch.zeros(1, dtype=torch.long)
    condition = model.condition(batch)
    backbone = model.backbone
    net = slow_layers(model.net, lambda: model.net(batch.latents, level, condition))
    assert costs["net"].layers == net
    text = backbone.encode_text(["words"])
    alone = slow_layers(
        backbone.unet, lambda: backbone.predict(batch.latents, level, text, Injection())
    )
    if model.net.latents or (model.net.identity and isinstance(model.net, Adapter | TextConcat)):
        assert costs["UNet"].layers > alone, "it also reads what is injected"
    else:
        assert costs["UNet"].layers == alone
    decoded = slow_layers(backbone.autoencoder, lambda: backbone.decode(batch.latents))
    assert costs["autoencoder"].layers == decoded
    assert ("net, reading references" in costs) == model.net.latents


def test_a_net_that_merges_is_counted_as_it_draws(tiny_backbone, tiny_batch) -> None:
    def make(kind: Any) -> PortraitModel:
        backbone = tiny_backbone()
        net = kind(backbone, True, False)
        return PortraitModel(backbone, NoFusion(10, 12, 16), KeypointCond(), net)

    bare = part_costs(make(NoNet), SIZES)
    model, costs = make(RepControlNet), part_costs(make(RepControlNet), SIZES)
    reading = costs.pop("net, reading the control image")
    entry = model.net.condition_adapter
    assert costs.pop("net") == PartCost(sum(p.numel() for p in entry.parameters()), 0, 0, 0)
    assert costs == {name: part for name, part in bare.items() if name != "net"}
    batch = tiny_batch(batch=1)
    drawing = model.drawing(batch.shape_geometry, batch.target_geometry)
    assert reading == PartCost(0, 0, slow_layers(entry, lambda: entry(drawing)), 0)


def test_attention_is_two_products_of_every_pair(tiny_backbone) -> None:
    backbone = tiny_backbone()
    fusion = FaceRefiner(10, 12, 16, learnable_tokens=2, layers=2, heads=2)
    model = PortraitModel(backbone, fusion, KeypointCond(), HiFiNet(backbone, True, True))
    cost = part_costs(model, SIZES)["fusion"]
    # Of each reference three queries see one another, then the global token and five local ones.
    assert cost.attention == SIZES.references * 2 * 2 * 16 * (3 * 3 + 3 * 6)
    # Queries, keys, values and the way out, twice a layer, and a feed-forward of 4 d; the linear
    # maps of local and global features.
    layer = 16 * 16 * ((3 + 3 + 3 + 3) + (3 + 6 + 6 + 3) + 2 * 4 * 3)
    assert cost.layers == SIZES.references * (2 * layer + 5 * 10 * 16 + 12 * 16)


@pytest.mark.parametrize(
    ("precision", "half"),
    [("32-true", None), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)],
)
def test_weights_and_activations_equal_those_of_a_real_step(
    make: Make, tiny_batch, precision: str, half: torch.dtype | None
) -> None:
    model = make()
    memory = training_memory(make(), SIZES, 2, precision)
    batch = tiny_batch(batch=2, latents=True)
    drawing = model.drawing(batch.shape_geometry, batch.target_geometry)
    every = replace(batch.references, mask=torch.ones(2, 4, dtype=torch.bool))
    batch = replace(batch, drawing=drawing, references=every)
    held, kept = storages(model), dict[int, Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in held:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    mixed = nullcontext() if half is None else torch.autocast("cpu", half)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with cast_once(model, precision), mixed, hooks:
        held |= storages(model)
        loss = model(batch, batch.latents, torch.zeros(2, dtype=torch.long)).square().mean()
    assert loss.requires_grad
    assert memory.weights == sum(held.values())
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert memory.activations == pytest.approx(real, rel=0.02)
    trained = sum(each.numel() for each in model.trained_parameters())
    assert (memory.gradients, memory.optimiser) == (4 * trained, 8 * trained)
    assert memory.total == memory.weights + 12 * trained + memory.activations


def storages(model: nn.Module) -> dict[int, int]:
    held = [each.untyped_storage() for each in (*model.parameters(), *model.buffers())]
    return {each.data_ptr(): each.nbytes() for each in held}


def test_the_backbone_alone_keeps_nothing(tiny_backbone) -> None:
    model = PortraitModel(
        tiny_backbone(), NoFusion(10, 12, 16), NoCond(), NoNet(None, False, False)
    )
    assert training_memory(model, SIZES, 1, "bf16-mixed").activations == 0


class _BlindAttention(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values


def test_an_attention_that_is_not_counted_ends_the_count() -> None:
    blind = _BlindAttention()
    with pytest.raises(AssertionError, match="_BlindAttention ran and no product of attention"):
        _cost([blind], lambda: blind(torch.zeros(1)), set(), set())
