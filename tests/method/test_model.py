"""Nets, and the whole model with every fusion, cond and net."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import ControlNetModel
from torch import nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.cond.landmarks5 import FiveLandmarkCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.concat import ConcatFusion
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.fusion.local import LocalFusion
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.net.none import NoNet
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.method.net.rep_controlnet import RepControlNet
from portraitlab.method.net.text_concat import TextConcat
from portraitlab.types import Batch, Condition, Injection
from portraitlab.world.pretrained import load_face_model

FUSIONS = {
    "local": LocalFusion,
    "global": GlobalFusion,
    "concat": ConcatFusion,
    "refiner": lambda *dims: FaceRefiner(*dims, learnable_tokens=3, layers=1, heads=2),
    "resampler": lambda *dims: ResamplerFusion(*dims, layers=1, heads=2),
    "none": NoFusion,
}
CONDS = {
    "landmarks": lambda: LandmarkCond(load_face_model()),
    "landmarks5": FiveLandmarkCond,
    "keypoints": KeypointCond,
    "none": NoCond,
}


def controlled(kind: type[Net], **settings) -> Callable[..., Net]:
    """A net beside a ControlNet of the backbone's, which draws where there is a cond."""

    def build(backbone: Backbone, control: bool, identity: bool) -> Net:
        beside = ControlNetModel.from_unet(
            backbone.unet, conditioning_embedding_out_channels=(1, 1)
        )
        return kind(backbone, control, identity, controlnet=beside, **settings)

    return build


NETS: dict[str, Callable[..., Net]] = {
    "hifi_net": HiFiNet,
    "adapter": controlled(Adapter),
    "instantid": InstantID,
    "ffrnet": FFRNet,
    "ffrnet, latents": partial(FFRNet, way_in="latents", reads_noise=False),
    "mmf": MultiModeFusion,
    "mmf, latents": partial(MultiModeFusion, way_in="latents", reads_noise=False),
    "photomaker": controlled(PhotoMaker, rank=2),
    "text_concat": controlled(TextConcat),
    "flashface": controlled(FlashFace),
    "rep_controlnet": RepControlNet,
    "rep_controlnet, latents": partial(RepControlNet, way_in="latents"),
    "none": NoNet,
}
TIMESTEPS = torch.tensor([3, 500, 999])


@pytest.fixture
def build(tiny_backbone):
    def build(fusion: str, cond: str, net: str) -> PortraitModel:
        backbone = tiny_backbone()
        a_fusion, a_cond = FUSIONS[fusion](10, 12, backbone.text_dim), CONDS[cond]()
        a_net = NETS[net](backbone, control=a_cond.draws, identity=a_fusion.gives_tokens)
        return PortraitModel(backbone, a_fusion, a_cond, a_net)

    return build


def open_zero_convolutions(model: PortraitModel) -> PortraitModel:
    """Stand in for the first training steps: no weight of the net is zero any more."""
    torch.manual_seed(1)
    for parameter in model.net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return model


def predict(model: PortraitModel, batch: Batch) -> torch.Tensor:
    noisy = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(5))
    return model(batch, noisy, TIMESTEPS)


def backbone_alone(model: PortraitModel, batch: Batch) -> torch.Tensor:
    noisy = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(5))
    return model.backbone.predict(noisy, TIMESTEPS, batch.text, Injection())


REFUSED = {
    **{
        ("none", cond, net): (
            f"net={net.partition(',')[0]} has no identity tokens to read with fusion=none; "
            "choose a fusion or net="
        )
        for cond in CONDS
        for net in (
            *("adapter", "instantid", "ffrnet", "ffrnet, latents", "mmf", "mmf, latents"),
            *("photomaker", "text_concat"),
        )
    },
    **{
        ("none", "none", net): "nothing to read with fusion=none and cond=none"
        for net in ("hifi_net", "rep_controlnet", "rep_controlnet, latents")
    },
}


@pytest.mark.parametrize(("fusion", "cond", "net"), list(itertools.product(FUSIONS, CONDS, NETS)))
def test_every_combination_trains_its_parts_or_names_the_reason(
    build, tiny_batch, fusion, cond, net
) -> None:
    if message := REFUSED.get((fusion, cond, net)):
        with pytest.raises(ValueError, match=message):
            build(fusion, cond, net)
        return
    model, batch = build(fusion, cond, net), tiny_batch(latents=True)
    if net == "none":
        assert model.trained_parameters() == []
        assert torch.equal(predict(model, batch), backbone_alone(model, batch))
        return
    prediction = predict(open_zero_convolutions(model), batch)
    assert prediction.shape == batch.latents.shape
    assert not torch.allclose(prediction, backbone_alone(model, batch))
    prediction.square().sum().backward()
    for name, parameter in model.named_parameters():
        trained = name.startswith("net.") or (name.startswith("fusion.") and model.net.identity)
        trained &= not name.startswith("net.frozen_control.")
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None) == trained, name
        # A key's bias shifts all scores of a query alike, which softmax does not see.
        if trained and "in_proj_bias" not in name:
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("fusion", "cond"), [("refiner", "landmarks"), ("none", "keypoints")])
def test_hifi_net_changes_nothing_at_step_0(build, tiny_batch, fusion, cond) -> None:
    model, batch = build(fusion, cond, "hifi_net"), tiny_batch()
    assert torch.equal(predict(model, batch), backbone_alone(model, batch))


def test_the_control_path_starts_at_zero(build, tiny_batch) -> None:
    model, batch = build("refiner", "landmarks", "hifi_net"), tiny_batch()
    for block in model.net.controlnet.controlnet_down_blocks:
        nn.init.normal_(block.weight)
    condition = model.condition(batch)
    silent = replace(condition, drawing=torch.zeros_like(condition.drawing))
    drawn = model.predict(batch.latents, TIMESTEPS, condition)
    assert torch.equal(drawn, model.predict(batch.latents, TIMESTEPS, silent))
    entry = model.net.controlnet.controlnet_cond_embedding
    assert not entry.weight.any()
    assert not entry.bias.any()


def test_hifi_net_starts_from_the_weights_of_the_unet(build) -> None:
    model = build("refiner", "landmarks", "hifi_net")
    unet = model.backbone.unet.state_dict()
    for name, value in model.net.controlnet.state_dict().items():
        if name.startswith(("conv_in", "time_embedding", "down_blocks", "mid_block")):
            assert torch.equal(value, unet[name]), name


def test_the_first_step_moves_the_zero_convolutions(build, tiny_batch) -> None:
    model = build("refiner", "landmarks", "hifi_net")
    predict(model, tiny_batch()).square().sum().backward()
    assert model.net.controlnet.controlnet_mid_block.weight.grad.abs().max() > 0
    for block in model.net.controlnet.controlnet_down_blocks:
        assert block.weight.grad.abs().max() > 0


READS_REFERENCES = [
    *itertools.product(
        ["local", "global", "concat", "refiner", "resampler"],
        ["landmarks"],
        [
            *("hifi_net", "adapter", "instantid", "ffrnet", "ffrnet, latents", "photomaker"),
            *("text_concat", "mmf", "mmf, latents", "rep_controlnet"),
        ],
    ),
    *(
        ("refiner", "none", net)
        for net in ("adapter", "ffrnet", "text_concat", "mmf", "rep_controlnet")
    ),
    ("none", "landmarks", "flashface"),
    ("none", "none", "flashface"),
]


@pytest.mark.parametrize(("fusion", "cond", "net"), READS_REFERENCES)
def test_masked_references_have_no_influence(build, tiny_batch, fusion, cond, net) -> None:
    model, batch = open_zero_convolutions(build(fusion, cond, net)), tiny_batch(latents=True)
    before = predict(model, batch)
    references, hidden = batch.references, ~batch.references.mask
    disturbed = replace(
        references,
        local_=references.local_ + 1e3 * hidden[..., None, None],
        global_=references.global_ + 1e3 * hidden[..., None],
        latents=references.latents + 1e3 * hidden[..., None, None, None],
    )
    assert torch.equal(predict(model, replace(batch, references=disturbed)), before)
    # As if they had never been there.
    narrow = replace(
        references,
        local_=references.local_[:, :2],
        global_=references.global_[:, :2],
        mask=references.mask[:, :2],
        latents=references.latents[:, :2],
    )
    padded = replace(references, mask=references.mask & (torch.arange(4) < 2))
    torch.testing.assert_close(
        predict(model, replace(batch, references=narrow)),
        predict(model, replace(batch, references=padded)),
        atol=1e-5,
        rtol=1e-4,
    )
    seen = replace(
        references,
        global_=2 * references.global_,
        local_=2 * references.local_,
        latents=2 * references.latents,
    )
    assert not torch.allclose(predict(model, replace(batch, references=seen)), before)


def test_the_whole_model_does_not_see_the_order_of_references(build, tiny_batch) -> None:
    model = open_zero_convolutions(build("refiner", "landmarks", "hifi_net"))
    batch = tiny_batch()
    references, order = batch.references, [3, 1, 0, 2]
    permuted = replace(
        references,
        local_=references.local_[:, order],
        global_=references.global_[:, order],
        mask=references.mask[:, order],
    )
    torch.testing.assert_close(
        predict(model, replace(batch, references=permuted)),
        predict(model, batch),
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    ("cond", "net"),
    [("none", "adapter"), *(("landmarks", net) for net in NETS)],
)
def test_an_empty_condition_gives_the_backbone_alone(build, tiny_batch, cond, net) -> None:
    model, batch = open_zero_convolutions(build("refiner", cond, net)), tiny_batch()
    noisy = torch.randn(batch.latents.shape)
    alone = model.backbone.predict(noisy, TIMESTEPS, batch.text, Injection())
    empty = Condition(batch.text, tokens=None, drawing=None)
    assert torch.equal(model.predict(noisy, TIMESTEPS, empty), alone)


@pytest.mark.parametrize("net", NETS)
def test_a_net_leaves_the_backbones_numbers_as_they_were(tiny_backbone, tiny_batch, net) -> None:
    backbone, batch = tiny_backbone(), tiny_batch()
    before = backbone.predict(batch.latents, TIMESTEPS, batch.text, Injection())
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    NETS[net](backbone, control=True, identity=True)
    after = backbone.predict(batch.latents, TIMESTEPS, batch.text, Injection())
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(backbone.state_dict(), state, atol=0, rtol=0)


def test_adapter_adds_scaled_attention_over_identity_tokens(build, tiny_batch) -> None:
    model, batch = build("global", "none", "adapter"), tiny_batch()
    processors = [
        processor
        for name, processor in model.backbone.unet.attn_processors.items()
        if name.endswith("attn2.processor")
    ]
    assert len(processors) == len(model.net.keys) > 0
    for processor in processors:
        processor.scale = 0.0
    torch.testing.assert_close(predict(model, batch), backbone_alone(model, batch))


def test_trained_state_is_fusion_and_net_and_loads_back(build, tiny_batch) -> None:
    batch = tiny_batch()
    trained = open_zero_convolutions(build("refiner", "landmarks", "hifi_net"))
    state = trained.trained_state_dict()
    assert {name.split(".")[0] for name in state} == {"fusion", "net"}
    fresh = build("refiner", "landmarks", "hifi_net")
    assert not torch.allclose(predict(fresh, batch), predict(trained, batch))
    fresh.load_trained_state_dict(state)
    assert torch.equal(predict(fresh, batch), predict(trained, batch))


def test_a_fusion_that_nothing_reads_is_neither_trained_nor_saved(build) -> None:
    model = build("refiner", "landmarks", "flashface")
    assert model.trained_state_dict().keys() == {
        name for name, each in model.named_parameters() if each.requires_grad
    }
    assert not [name for name in model.trained_state_dict() if name.startswith("fusion.")]


def test_weights_of_other_components_are_refused(build) -> None:
    state = build("concat", "landmarks", "hifi_net").trained_state_dict()
    with pytest.raises(ValueError, match=r"another fusion or net .*choose the components"):
        build("refiner", "landmarks", "hifi_net").load_trained_state_dict(state)


def test_a_net_of_latents_reads_the_encoded_drawing_without_gradient(build, tiny_batch) -> None:
    model, batch = build("refiner", "landmarks", "hifi_net"), tiny_batch()
    image = model.control_image(batch.shape_geometry, batch.target_geometry)
    condition = model.condition(batch)
    assert torch.equal(condition.drawing, model.backbone.encode(image))
    assert condition.drawing.shape[1:] == model.drawing_shape
    assert not condition.drawing.requires_grad
    assert build("refiner", "none", "hifi_net").condition(batch).drawing is None


def test_a_precomputed_drawing_is_used(build, tiny_batch) -> None:
    model, batch = build("refiner", "landmarks", "hifi_net"), tiny_batch()
    known = torch.ones_like(batch.latents)
    assert model.condition(replace(batch, drawing=known)).drawing is known
