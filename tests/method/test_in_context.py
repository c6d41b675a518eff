"""IC-Portrait's style picture, pairs and net against Sec. 3.3 written out slowly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from steering import TIMESTEPS
from torch import Tensor, nn

from portraitlab.deploy.controls import Control, WithControls
from portraitlab.diffusion.encoder_features import features_of
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.cond.style import StyleCond
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.in_context import InContext
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.method.transform.side_by_side import SideBySide
from portraitlab.types import Batch, Injection, Pictures, TextFeatures


class Prompt(nn.Module):
    """An image prompt of two words: the mean colours of the image's halves, spread to d."""

    words = 2

    def forward(self, images: Tensor) -> Tensor:
        halves = torch.stack([half.mean(dim=(2, 3)) for half in images.chunk(2, dim=-1)], dim=1)
        return halves.repeat(1, 1, 6)[..., :16]


def opened(net: Any) -> Any:
    """Open the weights that start at zero, as training does."""
    for parameter in net.starting_at_zero():
        nn.init.normal_(parameter, std=0.2)
    return net


def matching_net(backbone: Any, seed: int = 5) -> ControlNetModel:
    torch.manual_seed(seed)
    net = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(16, 32))
    nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.2)
    return net


def opened_controlnet(backbone: Any) -> ControlNetModel:
    net = matching_net(backbone)
    for block in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
        nn.init.normal_(block.weight, std=0.2)
    return net


def model_of(backbone: Any, matching: ControlNetModel | None = None, **settings: Any) -> Any:
    torch.manual_seed(1)
    settings = {"layer": 2, **settings}
    net = InContext(backbone, True, False, Prompt(), matching=matching, **settings)
    fusion = NoFusion(10, 12, backbone.text_dim)
    return PortraitModel(backbone, fusion, StyleCond(), opened(net), SideBySide()).eval()


@pytest.fixture
def batch(tiny_batch) -> Batch:
    return tiny_batch(batch=2, pictures=True)


# Eq. 1: the sampled style picture.


def test_a_pixel_is_shown_or_black_and_the_share_is_the_one_that_is_set() -> None:
    style = torch.rand(2, 3, 64, 64)
    given = Pictures(style, style, style, style, torch.ones(2, dtype=torch.bool), torch.arange(2))
    shown = StyleCond(drawn=0.3).eval().sample(given)
    kept = (shown != -1).all(dim=1)
    assert torch.equal(shown, torch.where(kept[:, None], style, torch.tensor(-1.0)))
    assert kept.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert not torch.equal(kept[0], kept[1])
    again = StyleCond(drawn=0.3).eval().sample(replace(given, seed=given.seed.flip(0)))
    assert torch.equal((again != -1).all(dim=1), kept.flip(0))


def test_in_training_each_sample_s_share_is_uniform_up_to_the_largest() -> None:
    style, count = torch.ones(400, 3, 20, 20), 400
    seeds = torch.arange(count)
    given = Pictures(style, style, style, style, torch.ones(count, dtype=torch.bool), seeds)
    shares = (StyleCond(most=0.4).train().sample(given) == 1).all(dim=1).float().mean(dim=(1, 2))
    assert shares.max() < 0.4 + 0.06
    assert shares.mean().item() == pytest.approx(0.2, abs=0.02)
    assert shares.std().item() == pytest.approx(0.4 / 12**0.5, abs=0.02)


@pytest.mark.parametrize("name", ["most", "drawn"])
@pytest.mark.parametrize("share", [0.0, 1.2, float("nan")])
def test_a_share_of_no_or_too_many_pixels_is_refused(name: str, share: float) -> None:
    with pytest.raises(ValueError, match=rf"cond\.{name}={share}: a number above 0 up to 1"):
        StyleCond(**{name: share})


# Eq. 2: pairs.


def test_a_pair_is_target_and_profile_and_its_left_is_the_portrait(batch) -> None:
    shown = torch.rand(2, 3, 32, 32)
    pair = SideBySide().lay_out(replace(batch, drawing=shown))
    assert torch.equal(pair.latents, torch.cat([batch.latents, batch.pictures.latents], dim=-1))
    assert torch.equal(pair.drawing, torch.cat([shown, batch.pictures.profile], dim=-1))
    assert torch.equal(pair.person, torch.cat([batch.person, batch.pictures.person], dim=-1))
    assert torch.equal(SideBySide().picture(pair.latents), batch.latents)


def test_the_portrait_s_noise_is_that_of_a_model_without_a_pair(tiny_backbone, batch) -> None:
    """Rows that are compared start from the same noise."""
    seen = {}

    class Watching(DDIM):
        def trajectory(self, model: Any, condition: Any, noise: Tensor, *rest: Any) -> Tensor:
            seen[model.net.side_by_side] = noise
            return super().trajectory(model, condition, noise, *rest)

    backbone = tiny_backbone()
    for model in (
        model_of(backbone),
        PortraitModel(
            backbone, NoFusion(10, 12, 16), KeypointCond(), HiFiNet(backbone, True, False)
        ),
    ):
        image = Watching(steps=1, guidance=1.0).sample(model, batch, seeds=[3, 4])
        assert image.shape == (2, 3, 32, 32)
    assert torch.equal(seen[True][..., :16], seen[False])
    assert seen[True].shape[-1] == 32
    assert not torch.equal(seen[True][..., 16:], seen[False])


# The net.


def slow(backbone: Any, model: Any, batch: Batch) -> Tensor:
    """Predict sample by sample: a ControlNet and the UNet, both prompted by the profile."""
    controlnet = matching_net(backbone)
    controlnet.load_state_dict(model.net.controlnet.state_dict())
    predictions = []
    for sample in range(2):
        one = slice(sample, sample + 1)
        pictures = batch.pictures
        pair = torch.cat([batch.latents[one], pictures.latents[one]], dim=-1)
        style = model.cond.sample(pictures)[one]
        shown = torch.cat([style, pictures.profile[one]], dim=-1) / 2 + 0.5
        words = Prompt()(pictures.profile[one]) * float(pictures.prompted[sample])
        down, mid = controlnet(pair, TIMESTEPS[one], words, shown, return_dict=False)
        predictions.append(
            backbone.predict(pair, TIMESTEPS[one], TextFeatures(words), Injection(down, mid))
        )
    return torch.cat(predictions)


def test_the_net_is_a_controlnet_of_the_pair_prompted_by_the_profile(tiny_backbone, batch) -> None:
    dropped = replace(batch.pictures, prompted=torch.tensor([True, False]))
    batch = replace(batch, pictures=dropped)
    model = model_of(tiny_backbone())
    pair = model.transform.apply(model.with_drawing(batch), step=0)
    with torch.no_grad():
        found = model(pair, pair.latents, TIMESTEPS)
        expected = slow(tiny_backbone(), model, batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_before_the_first_step_the_net_is_the_bare_unet(tiny_backbone, batch) -> None:
    backbone = tiny_backbone()
    net = InContext(backbone, True, False, Prompt(), matching=matching_net(backbone), layer=2)
    model = PortraitModel(backbone, NoFusion(10, 12, 16), StyleCond(), net, SideBySide()).eval()
    pair = model.transform.apply(model.with_drawing(batch), step=0)
    words = TextFeatures(Prompt()(batch.pictures.profile))
    with torch.no_grad():
        found = model(pair, pair.latents, TIMESTEPS)
        bare = backbone.predict(pair.latents, TIMESTEPS, words, Injection())
    assert torch.equal(found, bare)


def test_matches_are_the_most_alike_cells_of_the_matching_net(tiny_backbone, batch) -> None:
    """Eqs. 5 to 7, cell by cell, with features before the zero convolutions."""
    backbone, level = tiny_backbone(), 2
    matching = matching_net(backbone)
    warped, plain = (model_of(backbone, each, slope=0.7, base=0.3) for each in (matching, None))
    pair = plain.transform.apply(plain.with_drawing(batch), step=0)
    condition = plain.condition(pair)
    seen: list[Tensor] = []
    layer = matching.controlnet_down_blocks[level]
    layer.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    with torch.no_grad():
        matching(
            pair.latents, TIMESTEPS, condition.text.words, pair.drawing / 2 + 0.5, return_dict=False
        )
        found = warped.net(pair.latents, TIMESTEPS, condition)
        without = plain.net(pair.latents, TIMESTEPS, condition)
    left, right = seen[0].chunk(2, dim=-1)
    size = left.shape[-1]
    residual, own = found.down[level], without.down[level]
    weight = (1 - level / len(found.down)) * 0.7 + 0.3
    for sample in range(2):
        for row in range(size):
            for column in range(size):
                mine = left[sample, :, row, column]
                cosines = torch.stack(
                    [
                        torch.cosine_similarity(
                            mine, right[sample, :, there // size, there % size], 0
                        )
                        for there in range(size * size)
                    ]
                )
                best = int(cosines.argmax())
                profile = own[sample, :, best // size, size + best % size]
                expected = own[sample, :, row, column] + weight * profile
                torch.testing.assert_close(
                    residual[sample, :, row, column], expected, atol=1e-4, rtol=1e-3
                )
    assert torch.equal(residual[..., size:], own[..., size:])


def test_a_match_that_is_not_trusted_adds_nothing(tiny_backbone, batch) -> None:
    backbone = tiny_backbone()
    doubtful, plain = (
        model_of(backbone, each, trusted=1.1) for each in (matching_net(backbone), None)
    )
    pair = plain.transform.apply(plain.with_drawing(batch), step=0)
    with torch.no_grad():
        one, two = (model(pair, pair.latents, TIMESTEPS) for model in (doubtful, plain))
        assert torch.equal(one, two)
        with pytest.warns(UserWarning, match=r"below net\.trusted=1\.1.* nearer view"):
            doubtful.eval()(pair, pair.latents, TIMESTEPS)


def test_features_share_weights_and_leave_the_net_as_it_is(tiny_backbone) -> None:
    net = matching_net(tiny_backbone())
    before = list(net.state_dict())
    features = features_of(net, layer=2)
    assert list(net.state_dict()) == before
    assert features.conv_in.weight is net.conv_in.weight
    assert not [name for name in features.state_dict() if "controlnet_down" in name]


def test_features_of_a_layer_are_those_of_the_whole_net(tiny_backbone, batch) -> None:
    backbone = tiny_backbone()
    net, model = matching_net(backbone), model_of(backbone)
    pair = model.transform.apply(model.with_drawing(batch), step=0)
    given = (pair.latents, TIMESTEPS, model.condition(pair).text.words, pair.drawing / 2 + 0.5)
    outputs = [*net.controlnet_down_blocks, net.controlnet_mid_block]
    seen: list[Tensor] = []
    for output in outputs:
        output.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    with torch.no_grad():
        net(*given, return_dict=False)
        for layer, expected in enumerate([*seen]):
            features = features_of(net, layer)
            down, mid = features(*given, return_dict=False)
            assert torch.equal((*down, mid)[layer], expected)
            assert len(features.down_blocks) < len(net.down_blocks) or layer >= len(outputs) - 4


def test_a_step_trains_the_branch_alone_and_all_of_it(tiny_backbone, batch) -> None:
    backbone = tiny_backbone()
    model = model_of(backbone, matching_net(backbone)).train()
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    assert trained
    assert all(name.startswith("net.controlnet.") for name in trained)
    pair = model.transform.apply(model.with_drawing(batch), step=0)
    losses = Objective({"noise": NoiseLoss()})(
        model, pair, torch.Generator().manual_seed(0), progress=0.0
    )
    losses["loss"].backward()
    parameters = dict(model.named_parameters())
    assert [name for name in trained if not parameters[name].grad.any()] == []


def test_guidance_drops_the_profile_as_a_prompt_alone(tiny_backbone, batch) -> None:
    model = model_of(tiny_backbone())
    condition = model.condition(model.transform.lay_out(model.with_drawing(batch)))
    empty = DDIM(2, 3.0, guidance_drops="prompt").unconditional(model, condition)
    assert not empty.text.words.any()
    assert empty.text.words.shape == condition.text.words.shape
    assert empty.drawing is condition.drawing


def test_a_further_controlnet_acts_on_the_portrait_beside_a_black_profile(
    tiny_backbone, batch
) -> None:
    backbone = tiny_backbone()
    model, image = model_of(backbone), torch.rand(1, 3, 32, 32)
    control = Control(opened_controlnet(backbone), image)
    net = WithControls(model.net, [control])
    both = PortraitModel(backbone, model.fusion, model.cond, net, model.transform)
    pair = both.transform.lay_out(both.with_drawing(batch))
    condition = both.condition(pair)
    wide = torch.cat([image, torch.zeros_like(image)], dim=-1).expand(2, -1, -1, -1)
    with torch.no_grad():
        found = both.net(pair.latents, TIMESTEPS, condition)
        own = model.net(pair.latents, TIMESTEPS, condition)
        down, mid = control.controlnet(
            pair.latents, TIMESTEPS, condition.text.words, wide, return_dict=False
        )
    assert mid.abs().max() > 0
    torch.testing.assert_close(found.mid, own.mid + mid)
    for one, two, added in zip(found.down, own.down, down, strict=True):
        torch.testing.assert_close(one, two + added)


@pytest.mark.parametrize("edit", [(), ("edit=progressive",), ("edit=inpaint",), ("edit=diir",)])
def test_guidance_keeps_the_pair_as_the_paper_trains_it(composed, edit: tuple[str, ...]) -> None:
    config = composed("system=ic_portrait", *edit)
    assert config.sampler.guidance_drops == "prompt"
    assert not edit or config.edit.guidance_drops == "prompt"
    assert composed(*edit).sampler.guidance_drops == "everything"


# Bad input.


def test_a_net_or_a_transform_alone_is_refused(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = InContext(backbone, True, False, Prompt())
    fusion = NoFusion(10, 12, 16)
    with pytest.raises(ValueError, match="transform=side_by_side need each other"):
        PortraitModel(backbone, fusion, StyleCond(), net)
    hifi = HiFiNet(backbone, True, False)
    with pytest.raises(ValueError, match="transform=side_by_side need each other"):
        PortraitModel(backbone, fusion, KeypointCond(), hifi, SideBySide())


def test_a_net_without_a_style_picture_or_of_an_unknown_layer_is_refused(tiny_backbone) -> None:
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match="cond=none draws nothing; choose cond=style"):
        InContext(backbone, NoCond().draws, False, Prompt())
    with pytest.raises(ValueError, match=r"net\.layer=9: a whole number from 0 to .*matching net"):
        InContext(backbone, True, False, Prompt(), matching=matching_net(backbone), layer=9)
