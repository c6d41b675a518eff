"""The ControlNet that HiFi-Net starts from: how it is grown, and what it is trained on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel

from portraitlab.faces.alignment import align
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.pretraining import controlnet
from portraitlab.pretraining.controlnet import DrawnPerson, EncodedPhotos, Lesson, measure
from portraitlab.pretraining.loop import Budget
from portraitlab.pretraining.photos import load_photos, load_traits
from portraitlab.types import Condition
from portraitlab.world.identity import make_identity
from portraitlab.world.models.controlnet import REFERENCES, TraitTokens, grow_from
from portraitlab.world.pretrained import (
    load_backbone,
    load_controlnet,
    load_face_model,
    load_recogniser,
    load_regressor,
)
from portraitlab.world.settings import make_settings
from portraitlab.world.traits import TRAITS_SIZE, traits


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


def test_a_grown_controlnet_begins_as_a_copy_of_the_unet_s_encoder(backbone) -> None:
    grown = grow_from(backbone.unet)
    copy = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(1, 1))
    copy.controlnet_cond_embedding = torch.nn.Identity()
    assert "CrossAttnDownBlock2D" not in copy.config["down_block_types"][0]
    for model in (grown, copy):
        torch.manual_seed(0)
        for out in [*model.controlnet_down_blocks, model.controlnet_mid_block]:
            torch.nn.init.normal_(out.weight, std=0.1)
    noisy, text = torch.randn(2, 4, 16, 16), backbone.encode_text(["a photo", ""]).words
    with torch.no_grad():
        one, other = (
            model(noisy, torch.tensor([100, 900]), text, torch.zeros(()), return_dict=False)
            for model in (grown, copy)
        )
    for mine, theirs in zip([*one[0], one[1]], [*other[0], other[1]], strict=True):
        assert mine.abs().max() > 0
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_traits_tell_people_and_what_they_wear() -> None:
    one, settings = make_identity(3), make_settings(3, 0)
    assert traits(one, settings).shape == (TRAITS_SIZE,)
    other_cut = traits(one, replace(settings, other_haircut=not settings.other_haircut))
    assert 0 < (other_cut != traits(one, settings)).sum() <= 2
    turned = traits(one, replace(settings, yaw=0.5, expression=0 * settings.expression))
    assert (turned == traits(one, settings)).all()
    rows = load_traits("foundation_check", 200, 2)
    assert rows.shape == (400, TRAITS_SIZE)
    assert (rows[0::2].std(0) > 0.2).all()
    assert (rows.abs() < 8).all()


def test_traits_are_dealt_out_over_few_tokens_or_many_and_none_is_lost() -> None:
    made = TraitTokens(TRAITS_SIZE, 256)
    torch.nn.init.orthogonal_(made.directions)
    torch.nn.init.zeros_(made.names)
    rows = torch.randn(3, TRAITS_SIZE)
    lengths = []
    for seed in range(60):
        tokens = made(rows, torch.Generator().manual_seed(seed))
        again = made(rows, torch.Generator().manual_seed(seed))
        assert torch.equal(tokens.tokens, again.tokens)
        assert tokens.tokens.shape == (*tokens.mask.shape, 256)
        assert not tokens.tokens[~tokens.mask].any()
        told = (tokens.tokens @ made.directions.T).detach() * 2**0.5
        held = told[0].abs() > 1e-5  # which token holds which trait
        references = int(held.sum(0)[0])
        assert 1 <= references <= REFERENCES
        assert (held.sum(0) == references).all()
        sums = (told * held.sum(1)[None, :, None].sqrt()).sum(1)
        torch.testing.assert_close(sums, references * rows, atol=1e-4, rtol=1e-4)
        lengths.append(tokens.mask.shape[1] // references)
    assert min(lengths) == 1
    assert max(lengths) > 40
    assert max(lengths) <= TRAITS_SIZE
    assert 0.3 < sum(length <= TRAITS_SIZE**0.5 for length in lengths) / 60 < 0.7


def test_tokens_are_of_unit_size_and_name_their_traits() -> None:
    torch.manual_seed(0)
    made = TraitTokens(TRAITS_SIZE, 128)
    rows = torch.randn(50, TRAITS_SIZE)
    for seed in range(5):
        dealt = made(rows, torch.Generator().manual_seed(seed))
        assert 0.8 < dealt.tokens[dealt.mask].detach().std() < 1.2
    nothing = made(torch.zeros(2, TRAITS_SIZE), torch.Generator().manual_seed(0))
    assert nothing.tokens[nothing.mask].abs().max() > 0.1


def test_shipped_weights_are_gone_on_from_and_tokens_read_anew(backbone) -> None:
    shipped, grown = load_controlnet().state_dict(), grow_from(backbone.unet).state_dict()
    begun = DrawnPerson(backbone, from_shipped=True).net.controlnet.state_dict()
    read = [name for name in shipped if "attn2.to_k" in name or "attn2.to_v" in name]
    assert len(read) == 8  # four cross-attentions
    for name, value in begun.items():
        if name in read:
            assert not torch.equal(value, shipped[name])
            assert value.shape == grown[name].shape
        else:
            assert torch.equal(value, shipped[name])
    anew = DrawnPerson(backbone).net.controlnet.state_dict()
    assert not torch.equal(anew["conv_in.weight"], shipped["conv_in.weight"])


def test_photos_and_drawings_are_encoded_once(backbone, tmp_path: Path) -> None:
    photos = load_photos("foundation_check", identities=3, photos=2, cache=tmp_path, workers=1)
    encoded = EncodedPhotos(backbone, photos, "cpu")
    index = torch.tensor([4, 1, 4])
    geometry = load_regressor()(photos.pixels(index))
    drawing = LandmarkCond(load_face_model())(geometry, geometry, 64)
    half = {"atol": 2e-2, "rtol": 1e-2}
    with torch.no_grad():
        torch.testing.assert_close(encoded.drawn(0, index), backbone.encode(drawing), **half)
        straight = backbone.encode(photos.pixels(index))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encoded.latents(index), straight, **half)
    assert not torch.allclose(encoded.drawn(1, index), encoded.drawn(2, index), atol=0.1)
    recogniser = load_recogniser("recogniser")
    crops = align(photos.pixels(index), geometry.keypoints, recogniser.crop_size)
    torch.testing.assert_close(encoded.identity(index), recogniser(crops), atol=1e-4, rtol=1e-4)
    photos.images[:] = 0
    torch.testing.assert_close(encoded.identity(index[:1]), recogniser(crops[:1]), **half)
    torch.testing.assert_close(encoded.latents(index), straight, **half)


def test_a_drawing_and_no_drawing_train_the_same_net(backbone) -> None:
    model = DrawnPerson(backbone)
    torch.manual_seed(0)
    for parameter in model.net.starting_at_zero():
        torch.nn.init.normal_(parameter, std=0.1)
    noisy, other, control = (torch.randn(2, 4, 16, 16) for _ in range(3))
    tokens = model.traits(torch.randn(2, TRAITS_SIZE), torch.Generator().manual_seed(0))
    text = backbone.encode_text(["", ""])
    levels = torch.tensor([500, 900])

    def middle(noise: torch.Tensor, drawn: torch.Tensor | None) -> torch.Tensor:
        given = model.net(noise, levels, Condition(text, tokens, drawn)).mid
        assert given is not None
        return given

    with torch.no_grad():
        assert torch.equal(middle(noisy, control), middle(other, control))
        assert not torch.allclose(middle(noisy, None), middle(other, None))
        assert not torch.allclose(middle(noisy, None), middle(noisy, control))


def test_hifi_net_starts_as_the_controlnet_it_is_given(backbone) -> None:
    start = load_controlnet()
    net = HiFiNet(backbone, True, True, reads_noise=False, start=start)
    given = start.state_dict()
    assert all(
        torch.equal(value, given[name]) for name, value in net.controlnet.state_dict().items()
    )
    assert all(parameter.requires_grad for parameter in net.parameters())
    next(net.parameters()).data += 1
    assert not any(parameter.requires_grad for parameter in start.parameters())
    assert torch.equal(next(start.parameters()), next(load_controlnet().parameters()))


def test_a_start_of_another_unet_is_refused(tiny_backbone) -> None:
    with pytest.raises(ValueError, match=r"net\.start has .*=null to start from a copy"):
        HiFiNet(tiny_backbone(), True, True, start=load_controlnet())


@pytest.fixture(scope="module")
def lesson(backbone, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    cache = tmp_path_factory.mktemp("photos")
    photos = load_photos("foundation_check", identities=6, photos=3, cache=cache, workers=1)
    return Lesson(backbone, photos, load_traits("foundation_check", 6, 3), "cpu")


def teach_less(monkeypatch: pytest.MonkeyPatch, described: float) -> None:
    """Small batches, this share of them with words for tokens; and new weights from a seed."""
    monkeypatch.setattr(controlnet, "BATCH", 3)
    monkeypatch.setattr(controlnet, "DESCRIBED", described)
    torch.manual_seed(0)


def test_a_lesson_is_its_generators_and_comes_in_all_kinds(
    backbone, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach_less(monkeypatch, described=0.5)
    model = DrawnPerson(backbone)
    given: list[Condition] = []
    model.net.register_forward_pre_hook(lambda net, inputs: given.append(inputs[2]))
    terms = []
    with torch.no_grad():
        for seed in range(12):
            terms.append(lesson(model, torch.Generator().manual_seed(seed)))
            assert all(torch.isfinite(term) for term in terms[-1].values())
        again = lesson(model, torch.Generator().manual_seed(7))
    assert again == terms[7]
    del given[-1]
    for condition, term in zip(given, terms, strict=True):
        assert condition.tokens is not None or condition.drawing is not None
        if condition.tokens is None:  # words leave open who it is
            assert list(term) == ["velocity"]
            assert not torch.equal(condition.text.words, lesson.silence.words)
        else:
            assert torch.equal(condition.text.words, lesson.silence.words)
    assert {condition.tokens is None for condition in given} == {True, False}
    assert {condition.drawing is None for condition in given} == {True, False}
    assert {len(term) for term in terms} == {1, 2}


def test_a_lesson_reaches_all_that_is_trained_and_is_learnt(
    backbone, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach_less(monkeypatch, described=0.0)
    model = DrawnPerson(backbone, from_shipped=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = sum(lesson(model, torch.Generator().manual_seed(0)).values())
        optimiser.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_a_net_that_follows_landmarks_is_measured_as_better_than_one_that_does_not(
    backbone, tmp_path: Path
) -> None:
    budget = Budget(minutes=1, work=tmp_path, cache=tmp_path / "cache", workers=1)
    torch.manual_seed(0)
    trained, untrained = (
        measure(DrawnPerson(backbone, from_shipped=shipped), backbone, budget, people=10)
        for shipped in (True, False)
    )
    assert trained["landmark_error_px"] < 2 < 3 < untrained["landmark_error_px"]
    assert -1 <= untrained["likeness"] <= 1
    assert (tmp_path / "controlnet.png").is_file()
