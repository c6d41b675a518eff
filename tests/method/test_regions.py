"""Identity tokens that act in the region of their person alone (FPGA, Sec. 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from crowd import make_crowd, with_references_of, without_person
from denoised import opened
from steering import attend
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.concat import ConcatFusion
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.attention import acting, resolution, safe_mask
from portraitlab.method.net.base import Net
from portraitlab.method.net.control_branch import ControlBranch
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.method.net.text_concat import TextConcat
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.types import Batch, IdentityTokens, Regions

TIMESTEPS = torch.tensor([500, 900])
NETS: dict[str, Callable[[Backbone], Net]] = {
    "hifi_net": lambda backbone: HiFiNet(backbone, True, True),
    "ffrnet": lambda backbone: FFRNet(backbone, True, True),
    "instantid": lambda backbone: InstantID(backbone, True, True),
    "mmf": lambda backbone: MultiModeFusion(backbone, True, True),
    "both": lambda backbone: ControlBranch(backbone, True, "both", "latents"),
    "adapter": lambda backbone: Adapter(backbone, False, True),
    "text_concat": lambda backbone: TextConcat(backbone, False, True),
    "photomaker": lambda backbone: PhotoMaker(backbone, False, True, rank=2),
}
BRANCHES = ("hifi_net", "ffrnet", "instantid", "mmf", "both")
IN_THE_UNET = ("instantid", "adapter", "text_concat", "photomaker")
every_net = pytest.mark.parametrize("net", NETS)


@pytest.fixture
def build(tiny_backbone) -> Callable[..., PortraitModel]:
    def build(net: str, fusion: Any = None) -> PortraitModel:
        backbone = tiny_backbone()
        torch.manual_seed(0)
        fusion = ConcatFusion(10, 12, 16) if fusion is None else fusion(10, 12, 16)
        a_net = NETS[net](backbone)
        cond = KeypointCond() if a_net.control else NoCond()
        return opened(PortraitModel(backbone, fusion, cond, a_net))

    return build


def predict(model: PortraitModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(batch, batch.latents, TIMESTEPS[: len(batch)])


@contextmanager
def watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of the first cross-attention in a branch or UNet."""
    first = next(part for name, part in module.named_modules() if name.endswith(".attn2"))
    seen: list[Tensor] = []
    handle = first.register_forward_hook(lambda layer, given, out: seen.append(out.detach()))
    yield seen
    handle.remove()


def first_attentions(model: PortraitModel, net: str, batch: Batch) -> list[Tensor]:
    """Outputs [B, h'·w', C] of the first cross-attentions in which identity tokens act."""
    branch = model.net.identity_net if net == "instantid" else model.net
    places = [branch.controlnet] if net in BRANCHES else []
    places += [model.backbone.unet] if net in IN_THE_UNET else []
    found = []
    for place in places:
        with watched(place) as seen:
            predict(model, batch)
        found += seen
    return found


def cells(batch: Batch, queries: int) -> Tensor:
    """Cells [B, P, h'·w'] of each person's region at an attention's resolution."""
    assert batch.regions is not None
    factor = round(math.sqrt(batch.regions[0, 0].numel() / queries))
    return batch.regions[..., ::factor, ::factor].flatten(2)


@every_net
def test_a_persons_references_change_nothing_outside_their_region(build, net: str) -> None:
    model, batch = build(net), make_crowd()
    changed = with_references_of(batch, sample=0, person=0, value=1.0)
    pairs = zip(*(first_attentions(model, net, each) for each in (batch, changed)), strict=True)
    for before, after in pairs:
        moved = (before != after).any(dim=-1)
        inside = cells(batch, before.shape[1])[0, 0]
        assert inside.any()
        assert torch.equal(moved[0], inside)
        assert not moved[1].any()


@every_net
@pytest.mark.parametrize("fusion", [None, ResamplerFusion])
def test_a_region_of_the_whole_picture_is_none(build, tiny_batch, net: str, fusion: Any) -> None:
    model, alone = build(net, fusion), tiny_batch(batch=2)
    assert not alone.references.mask.all()
    whole = replace(
        alone,
        references=alone.references.changed(lambda tensor: tensor[:, None]),
        shape_geometry=alone.shape_geometry.changed(lambda tensor: tensor[:, None]),
        target_geometry=alone.target_geometry.changed(lambda tensor: tensor[:, None]),
        regions=torch.ones(2, 1, 16, 16, dtype=torch.bool),
    )
    torch.testing.assert_close(predict(model, whole), predict(model, alone), atol=1e-5, rtol=1e-5)


@every_net
def test_people_who_change_places_make_another_picture(build, net: str) -> None:
    """The order in which people are listed makes none."""
    model, batch = build(net), make_crowd()
    turned = replace(batch, regions=batch.regions.flip(1))
    assert not torch.allclose(predict(model, batch), predict(model, turned), atol=1e-4)
    swapped = replace(
        batch,
        references=batch.references.changed(lambda tensor: tensor.flip(1)),
        shape_geometry=batch.shape_geometry.changed(lambda tensor: tensor.flip(1)),
        target_geometry=batch.target_geometry.changed(lambda tensor: tensor.flip(1)),
        regions=batch.regions.flip(1),
    )
    torch.testing.assert_close(predict(model, swapped), predict(model, batch), atol=1e-5, rtol=1e-4)


@every_net
def test_a_person_who_is_not_there_has_no_influence(build, net: str) -> None:
    model = build(net)
    batch = without_person(make_crowd(), sample=1, person=1)
    # Even where their region would cover more of a coarse cell than the other's.
    batch.regions[1, 0] = False
    batch.regions[1, 0, 3:10, 1:8] = True
    batch.regions[1, 1] = True
    assert batch.references.mask[1, 0].any()
    before = predict(model, batch)
    references = batch.references
    disturbed = replace(
        references, local_=references.local_.clone(), global_=references.global_.clone()
    )
    disturbed.local_[1, 1] += 1e3
    disturbed.global_[1, 1] -= 1e3
    assert torch.equal(predict(model, replace(batch, references=disturbed)), before)
    # As if there were one person alone.
    one = replace(
        batch,
        references=batch.references.changed(lambda tensor: tensor[:, :1]),
        shape_geometry=batch.shape_geometry.changed(lambda tensor: tensor[:, :1]),
        target_geometry=batch.target_geometry.changed(lambda tensor: tensor[:, :1]),
        regions=batch.regions[:, :1],
    )
    torch.testing.assert_close(predict(model, one)[1], before[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("net", ["hifi_net", "ffrnet", "instantid", "mmf"])
def test_outside_all_regions_tokens_add_nothing_to_a_branch(build, net: str) -> None:
    model, batch = build(net), make_crowd()
    condition = model.condition(batch)
    with torch.no_grad():
        attended = model.net(batch.latents, TIMESTEPS, condition).attended
    inside = cells(batch, attended.shape[1]).any(dim=1)
    assert inside.any()
    assert not inside.all()
    assert not attended[~inside].any()
    assert attended[inside].any(dim=-1).all()


@pytest.mark.parametrize("net", ["mmf", "both"])
def test_outside_all_regions_a_branch_that_reads_the_prompt_does_so(build, net: str) -> None:
    model, batch = build(net), make_crowd()
    (found,) = first_attentions(model, net, batch)
    words = replace(model.condition(batch), tokens=None)
    with watched(model.net.controlnet) as seen, torch.no_grad():
        model.net(batch.latents, TIMESTEPS, words)
    inside = cells(batch, found.shape[1]).any(dim=1)
    torch.testing.assert_close(found[~inside], seen[0][~inside], atol=1e-6, rtol=1e-5)
    assert not torch.isclose(found[inside], seen[0][inside]).all(dim=-1).any()


# Not photomaker, whose low-rank weights change the attention to the prompt too.
@pytest.mark.parametrize("net", ["instantid", "adapter", "text_concat"])
def test_outside_all_regions_the_unet_reads_the_prompt(build, net: str) -> None:
    model, batch = build(net), make_crowd()
    found = first_attentions(model, net, batch)[-1]
    injection = replace(model.net(batch.latents, TIMESTEPS, model.condition(batch)), attention=None)
    with watched(model.backbone.unet) as seen, torch.no_grad():
        model.backbone.predict(batch.latents, TIMESTEPS, batch.text, injection)
    inside = cells(batch, found.shape[1]).any(dim=1)
    torch.testing.assert_close(found[~inside], seen[0][~inside], atol=1e-6, rtol=1e-5)
    assert not torch.isclose(found[inside], seen[0][inside]).all(dim=-1).any()


def slow_owners(areas: Tensor, factor: int) -> dict[tuple[int, int], set[int]]:
    """People [P, h, w] whose region covers most of each coarse cell, counted cell by cell."""
    people, height, width = areas.shape
    owners = {}
    for row in range(height // factor):
        for column in range(width // factor):
            counts = [
                sum(
                    bool(areas[person, factor * row + y, factor * column + x])
                    for y in range(factor)
                    for x in range(factor)
                )
                for person in range(people)
            ]
            most = max(counts)
            owners[row, column] = {p for p, count in enumerate(counts) if count == most and most}
    return owners


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_coarse_cell_belongs_to_the_region_that_covers_most_of_it(factor: int) -> None:
    generator = torch.Generator().manual_seed(0)
    areas = torch.rand(2, 3, 8, 12, generator=generator) < 0.4
    areas[:, :, :4, :4] = False
    owner = torch.tensor([[0, 0, 1, 2, -1]] * 2)
    mask = torch.tensor([[True, False, True, True, True], [True] * 5])
    tokens = IdentityTokens(torch.zeros(2, 5, 16), mask, Regions(areas, owner))
    height, width = 8 // factor, 12 // factor
    found = acting(tokens, height * width)
    assert found.shape == (2, height * width, 5)
    shared = set()
    for sample in range(2):
        for (row, column), people in slow_owners(areas[sample], factor).items():
            expected = [
                bool(mask[sample, k]) and (whose < 0 or whose in people)
                for k, whose in enumerate(owner[sample].tolist())
            ]
            assert found[sample, row * width + column].tolist() == expected
            shared.add(len(people))
    assert shared >= {0, 1, 2}, "of the regions, some overlap and some cells are free"


def test_resolutions_are_halved_as_by_a_unet_for_any_size() -> None:
    convolution = nn.Conv2d(1, 1, 3, stride=2, padding=1)
    for height, width in ((16, 16), (9, 14), (7, 5), (16, 32)):
        latents = torch.zeros(1, 1, height, width)
        for _ in range(3):
            size = tuple(latents.shape[-2:])
            assert resolution(height, width, size[0] * size[1]) == size
            latents = convolution(latents)
    with pytest.raises(AssertionError, match="halves the latents"):
        resolution(16, 16, 100)


@pytest.mark.parametrize("net", ["hifi_net", "mmf"])
def test_attention_in_regions_agrees_with_the_paper_written_out_slowly(build, net: str) -> None:
    """Each cell attends to the tokens of the people in whose region it is, one by one."""
    model, batch = build(net), make_crowd()
    condition = model.condition(batch)
    layer = next(
        part for name, part in model.net.controlnet.named_modules() if name.endswith(".attn2")
    )
    read: list[Tensor] = []
    handle = layer.register_forward_hook(lambda *given: read.append(given[1][0]))
    with torch.no_grad():
        attended = model.net(batch.latents, TIMESTEPS, condition).attended
    handle.remove()
    tokens, regions = condition.tokens, condition.tokens.regions
    inside = cells(batch, attended.shape[1])
    for sample in range(2):
        for cell in range(0, attended.shape[1], 3):
            people = inside[sample, :, cell].nonzero().flatten().tolist()
            seen = [
                token
                for token, there, whose in zip(
                    tokens.tokens[sample], tokens.mask[sample], regions.owner[sample], strict=True
                )
                if there and int(whose) in people
            ]
            if not seen:
                assert not attended[sample, cell].any()
                continue
            with torch.no_grad():
                query = layer.to_q(read[0][sample, cell])
                keys, values = (to(torch.stack(seen)) for to in (layer.to_k, layer.to_v))
                slow = layer.to_out[0](attend(query, keys, values, layer.heads))
            torch.testing.assert_close(attended[sample, cell], slow, atol=1e-5, rtol=1e-4)


def test_a_query_without_a_token_attends_to_all_and_counts_nothing() -> None:
    areas = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    areas[0, 0, 0, 0] = True
    tokens = IdentityTokens(torch.zeros(1, 3, 4), torch.tensor([[True, True, False]]))
    acts, some = safe_mask(tokens, 4)
    assert some is None
    assert acts.tolist() == [[[True, True, False]]]
    owned = replace(tokens, regions=Regions(areas, torch.zeros(1, 3, dtype=torch.long)))
    acts, some = safe_mask(owned, 4)
    assert some.flatten().tolist() == [True, False, False, False]
    assert acts[0].tolist() == [[True, True, False], *[[True] * 3] * 3]


@every_net
@pytest.mark.parametrize("fusion", [None, ResamplerFusion, FaceRefiner])
def test_an_empty_picture_has_numbers_and_gradients(build, net: str, fusion: Any) -> None:
    model, batch = build(net, fusion), make_crowd()
    for person in range(2):
        batch = without_person(batch, sample=0, person=person)
    batch.regions[1] = False
    prediction = model(batch, batch.latents, TIMESTEPS)
    assert torch.isfinite(prediction).all()
    prediction.square().mean().backward()
    gradients = [each.grad for each in model.trained_parameters() if each.grad is not None]
    assert gradients
    assert all(torch.isfinite(each).all() for each in gradients)
    # Nobody at all in the whole batch.
    for person in range(2):
        batch = without_person(batch, sample=1, person=person)
    assert torch.isfinite(predict(model, batch)).all()


@every_net
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_has_numbers_near_the_single_ones(build, net: str, half: Any) -> None:
    model, batch = build(net), without_person(make_crowd(), sample=1, person=1)
    whole = predict(model, batch)
    with torch.autocast("cpu", half):
        found = predict(model, batch)
    assert found.dtype == half
    assert torch.isfinite(found).all()
    error = (found.float() - whole).square().mean().sqrt() / whole.square().mean().sqrt()
    assert error < 0.05


def test_each_persons_references_are_fused_by_themselves(build) -> None:
    model, batch = build("mmf", FaceRefiner), without_person(make_crowd(), sample=1, person=1)
    tokens = model.condition(batch).tokens
    assert tokens.tokens.shape[:2] == (2, 2 * 4 * 33)
    apart = tokens.tokens.unflatten(1, (2, -1))
    known = tokens.mask.unflatten(1, (2, -1))
    for sample, person in ((0, 0), (0, 1), (1, 0)):
        own = batch.references.changed(
            lambda tensor, sample=sample, person=person: tensor[sample, person][None]
        )
        alone = model.fusion(own)
        torch.testing.assert_close(apart[sample, person], alone.tokens[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(known[sample, person], alone.mask[0])
    assert not known[1, 1].any()
    assert (
        tokens.regions.owner.unflatten(1, (2, -1)).unique(dim=2).flatten(1).tolist() == [[0, 1]] * 2
    )


def test_people_are_drawn_over_each_other_and_the_absent_not_at_all(build) -> None:
    model = build("hifi_net")
    batch = without_person(make_crowd(people=3), sample=1, person=2)
    batch.target_geometry.keypoints[:, 1] -= torch.tensor([0.2, 0.0])
    batch.target_geometry.keypoints[:, 2] += torch.tensor([0.2, 0.1])
    found = model.control_image(batch.shape_geometry, batch.target_geometry)
    alone = []
    for person in range(3):
        geometry = batch.target_geometry.changed(lambda tensor, person=person: tensor[:, person])
        alone.append(model.cond(geometry, geometry, 32))
    assert found.shape == (2, 3, 32, 32)
    assert torch.equal(found[0], torch.stack([each[0] for each in alone]).amax(0))
    assert torch.equal(found[1], torch.maximum(alone[0][1], alone[1][1]))
    assert (alone[2][1] > found[1]).any()
    for person in range(2):
        batch = without_person(batch, sample=1, person=person)
    empty = model.control_image(batch.shape_geometry, batch.target_geometry)
    assert (empty[1] == -1).all()
    assert model.condition(batch).drawing.shape == (2, *model.drawing_shape)


@pytest.mark.parametrize("net", ["mmf", "adapter"])
def test_a_group_is_drawn_by_a_sampler_and_its_order_in_the_batch_is_free(build, net: str) -> None:
    model, batch = build(net), make_crowd(people=3)
    sampler = DDIM(steps=2, guidance=3.0)
    images = sampler.sample(model, batch, seeds=[0, 1])
    assert images.shape == (2, 3, 32, 32)
    assert torch.isfinite(images).all()
    (second,) = sampler.sample(model, batch[[1]], seeds=[1])
    torch.testing.assert_close(second, images[1], atol=1e-4, rtol=1e-3)
