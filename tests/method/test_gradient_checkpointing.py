"""Activations computed anew: the same gradients to the bit, and fewer of them kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from steering import published
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from portraitlab.deploy.cost import Sizes, training_memory
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.facial_parts import FacialPartsFusion
from portraitlab.method.fusion.mlp import MLPFusion
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.controlnet import ControlNet
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.method.net.rep_controlnet import RepControlNet
from portraitlab.method.net.text_concat import TextConcat
from portraitlab.method.objective.base import Term
from portraitlab.method.objective.identity import IdentityLoss
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.support.precision import quick_attention
from portraitlab.types import Batch

SIZES = Sizes(local_length=5, local_dim=10, global_dim=12, references=4)  # those of tiny batches
NETS: dict[str, Callable[..., Any]] = {
    "hifi_net": HiFiNet,
    "instantid": InstantID,
    "controlnet": ControlNet,
    "ffrnet": FFRNet,
    "mmf": MultiModeFusion,
    "rep_controlnet": RepControlNet,
    "adapter": lambda b, *reads: Adapter(b, *reads, controlnet=published(b)),
    "flashface": lambda b, *reads: FlashFace(b, *reads, controlnet=published(b)),
    "text_concat": lambda b, *reads: TextConcat(b, *reads, controlnet=published(b)),
    "photomaker": lambda b, *reads: PhotoMaker(
        b, *reads, rank=2, class_prompt="a photo of somebody", controlnet=published(b)
    ),
}


@pytest.fixture(params=NETS)
def make(request: pytest.FixtureRequest, tiny_backbone: Any) -> Callable[[], PortraitModel]:
    """Build the same model on each call."""

    def build() -> PortraitModel:
        backbone = tiny_backbone()
        torch.manual_seed(1)
        fusion = FaceRefiner(10, 12, 16, learnable_tokens=2, layers=2, heads=2)
        net = NETS[request.param](backbone, True, True)
        for parameter in net.starting_at_zero():
            torch.nn.init.normal_(parameter, std=0.1)
        return PortraitModel(backbone, fusion, KeypointCond(), net)

    return build


class Saved:
    """A tensor in the hands of the graph; `bytes` of it are on a list until the graph lets go."""

    def __init__(self, tensor: Tensor, kept: Counter[int]) -> None:
        self.tensor, self.kept = tensor, kept
        self.place = tensor.untyped_storage().data_ptr()
        kept[self.place] += 1

    def __del__(self) -> None:
        self.kept[self.place] -= 1


class Kept:
    """Bytes of what a forward pass keeps for the backward pass, beside the model's own tensors."""

    def __init__(self, model: torch.nn.Module) -> None:
        own = (*model.parameters(), *model.buffers())
        self.held = {each.untyped_storage().data_ptr() for each in own}
        self.counts: Counter[int] = Counter()
        self.sizes: dict[int, int] = {}

    def hooks(self) -> saved_tensors_hooks:
        def pack(tensor: Tensor) -> Saved:
            saved = Saved(tensor, self.counts)
            self.sizes[saved.place] = tensor.untyped_storage().nbytes()
            return saved

        return saved_tensors_hooks(pack, lambda saved: saved.tensor)

    @property
    def bytes(self) -> int:
        kept = {place for place, count in self.counts.items() if count} - self.held
        return sum(self.sizes[place] for place in kept)


def drawn(model: PortraitModel, batch: Batch) -> Batch:
    """Make a batch with its drawing made beforehand, as in a training."""
    return replace(batch, drawing=model.drawing(batch.shape_geometry, batch.target_geometry))


@pytest.mark.parametrize(
    ("terms", "half"), [("noise", False), ("noise", True), ("noise and identity", False)]
)
def test_gradients_are_the_same_and_less_is_kept(
    make, tiny_batch, tiny_recogniser, tiny_regressor, terms: str, half: bool
) -> None:
    batch = drawn(make(), tiny_batch(latents=True))
    identity = IdentityLoss(tiny_recogniser(), tiny_regressor(), threshold=0.0)
    every: dict[str, Term] = {"noise": NoiseLoss(), "identity": identity}
    objective = Objective({name: every[name] for name in terms.split(" and ")})

    def step(anew: bool) -> tuple[float, list[Tensor | None], int]:
        model = make()
        if anew:
            model.enable_gradient_checkpointing()
        kept = Kept(model)
        with quick_attention(torch.device("cpu")):
            with kept.hooks(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                generator = torch.Generator().manual_seed(0)
                loss = objective(model, batch, generator, progress=0.0)["loss"]
            size = kept.bytes
            loss.backward()
        return loss.item(), [each.grad for each in model.trained_parameters()], size

    loss, gradients, whole = step(anew=False)
    again, same, fewer = step(anew=True)
    # Images are decoded one by one, which rounds elsewhere than all at once.
    near = {"rtol": 0, "atol": 0} if terms == "noise" else {"rtol": 1e-3, "atol": 1e-5}
    assert again == pytest.approx(loss, rel=near["rtol"])
    assert all(each is not None for each in gradients)
    torch.testing.assert_close(same, gradients, **near)
    assert fewer < whole / 2


@pytest.mark.parametrize(
    "kind",
    [
        partial(FaceRefiner, layers=3),
        MLPFusion,
        partial(FacialPartsFusion, heads=2),
        partial(ResamplerFusion, heads=2),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_a_fusion_keeps_the_inputs_of_its_layers(kind: Any, half: bool, tiny_batch) -> None:
    features = tiny_batch(dims=(10, 12, 17)).references

    def step(anew: bool) -> tuple[Tensor, list[Tensor | None], int]:
        torch.manual_seed(1)
        fusion = kind(10, 12, 32)
        if anew:
            fusion.enable_gradient_checkpointing()
        kept = Kept(fusion)
        with quick_attention(torch.device("cpu")):
            with kept.hooks(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                tokens = fusion(features).tokens
                loss = tokens.float().pow(3).sum()
            size = kept.bytes
            loss.backward()
        return tokens, [each.grad for each in fusion.parameters()], size

    tokens, gradients, whole = step(anew=False)
    again, same, fewer = step(anew=True)
    assert torch.equal(again, tokens)
    assert all(each is not None for each in gradients)
    torch.testing.assert_close(same, gradients, rtol=0, atol=0)
    assert fewer < whole / 2


def test_the_cost_of_a_step_knows_of_it(make, tiny_batch) -> None:
    without = training_memory(make(), SIZES, 2, "32-true", decoded=2)
    memory = training_memory(make(), SIZES, 2, "32-true", gradient_checkpointing=True, decoded=2)
    model, batch = make(), tiny_batch(batch=2, latents=True)
    model.enable_gradient_checkpointing()
    every = replace(batch.references, mask=torch.ones(2, 4, dtype=torch.bool))
    batch, kept = replace(drawn(model, batch), references=every), Kept(model)
    with kept.hooks():
        prediction = model(batch, batch.latents, torch.zeros(2, dtype=torch.long))
        loss = prediction.square().mean() + model.backbone.decode(prediction).mean()
    assert loss.requires_grad
    assert memory.activations == pytest.approx(kept.bytes, rel=0.02)
    assert 0 < memory.recomputed < without.activations
    assert without.recomputed == 0
    assert (
        memory.total == without.total - without.activations + memory.activations + memory.recomputed
    )


def test_an_average_costs_a_number_a_parameter(make) -> None:
    plain, averaged = (
        training_memory(make(), SIZES, 1, "32-true", averaged=each) for each in (False, True)
    )
    assert averaged.average == averaged.gradients == averaged.total - plain.total


def test_nothing_changes_without_gradients(make, tiny_batch) -> None:
    model, levels = make(), torch.tensor([10, 500, 990])
    batch = drawn(model, tiny_batch(latents=True))
    with torch.no_grad():
        before = model(batch, batch.latents, levels)
        model.enable_gradient_checkpointing()
        assert torch.equal(model(batch, batch.latents, levels), before)
