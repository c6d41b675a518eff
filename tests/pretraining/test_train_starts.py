"""Starts of nets: how each way into the UNet begins, and its training data."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel

from portraitlab.faces.alignment import align
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.pretraining import starts
from portraitlab.pretraining.encoded_photos import DRAWN, EncodedPhotos
from portraitlab.pretraining.loop import Budget
from portraitlab.pretraining.photos import TrainingPhotos, load_photos, load_traits
from portraitlab.pretraining.starts import StartLoss, choose, measure
from portraitlab.pretraining.ways_in import WAYS, Attention, Branch, WayIn
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


def test_traits_identify_people_and_clothes() -> None:
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
        described = (tokens.tokens @ made.directions.T).detach() * 2**0.5
        held = described[0].abs() > 1e-5  # which token holds which trait
        references = int(held.sum(0)[0])
        assert 1 <= references <= REFERENCES
        assert (held.sum(0) == references).all()
        sums = (described * held.sum(1)[None, :, None].sqrt()).sum(1)
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


def test_shipped_weights_are_trained_further_with_new_token_weights(backbone) -> None:
    shipped, grown = load_controlnet().state_dict(), grow_from(backbone.unet).state_dict()
    begun = Branch(backbone, from_shipped=True).net.controlnet.state_dict()
    read = [name for name in shipped if "attn2.to_k" in name or "attn2.to_v" in name]
    assert len(read) == 8  # four cross-attentions
    for name, value in begun.items():
        if name in read:
            assert not torch.equal(value, shipped[name])
            assert value.shape == grown[name].shape
        else:
            assert torch.equal(value, shipped[name])
    anew = Branch(backbone).net.controlnet.state_dict()
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
    model = Branch(backbone)
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


def test_adapters_start_as_they_are_given(backbone, tiny_backbone) -> None:
    torch.manual_seed(0)
    own = load_backbone()
    trained = Attention(own).start()
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter)
    start = trained.state_dict()
    begun = Adapter(load_backbone(), False, True, start=start)
    assert {"keys.0.weight", "values.0.weight"} <= set(start)
    for name, value in begun.state_dict().items():
        assert torch.equal(value, start[name])
    assert all(parameter.requires_grad for parameter in begun.parameters())
    both = InstantID(load_backbone(), True, True, adapter_start=start)
    assert torch.equal(both.adapter.keys[0].weight, start["keys.0.weight"])
    with pytest.raises(ValueError, match=r"net\.start has keys .*net\.start=null"):
        Adapter(tiny_backbone(), False, True, start=start)


def test_each_drawing_comes_as_often_as_none() -> None:
    generator = torch.Generator().manual_seed(0)
    for way in (Branch, Attention):
        chosen = [choose(way.reads, generator) for _ in range(2000)]
        for cond in (*range(len(DRAWN)), None):
            assert 0.22 < sum(found == cond for found, _ in chosen) / 2000 < 0.28
        assert {read for _, read in chosen} == set(way.reads)
        assert {read for cond, read in chosen if cond is None} == {"tokens"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> TrainingPhotos:
    cache = tmp_path_factory.mktemp("photos")
    return load_photos("foundation_check", identities=6, photos=3, cache=cache, workers=1)


@pytest.fixture(params=list(WAYS))
def taught(
    request: pytest.FixtureRequest, photos: TrainingPhotos, monkeypatch: pytest.MonkeyPatch
) -> tuple[WayIn, StartLoss]:
    """A way in, and its lessons of small batches, on a backbone that it may change."""
    monkeypatch.setattr(starts, "BATCH", 3)
    torch.manual_seed(0)
    backbone = load_backbone()
    traits = load_traits("foundation_check", 6, 3)
    return WAYS[request.param](backbone), StartLoss(backbone, photos, traits, "cpu")


def test_a_lesson_is_its_generators_and_comes_in_all_kinds(
    taught: tuple[WayIn, StartLoss], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lesson = taught
    given: list[Condition] = []
    model.net.register_forward_pre_hook(lambda net, inputs: given.append(inputs[2]))
    kinds = [*((0, read) for read in model.reads), (None, "tokens")]
    terms = []
    with torch.no_grad():
        for kind in [*kinds, kinds[0]]:
            monkeypatch.setattr(starts, "choose", lambda *_, kind=kind: kind)
            terms.append(lesson(model, torch.Generator().manual_seed(3)))
            assert all(torch.isfinite(term) for term in terms[-1].values())
    assert terms[-1] == terms[0]
    text = given[0].text.words.shape[1]
    for (cond, read), condition, term in zip(kinds, given, terms, strict=False):
        assert (condition.drawing is None) == (cond is None)
        assert (condition.tokens is None) == (read == "words")
        assert set(term) == {"velocity"} if read == "words" else {"velocity", "identity"}
        if read == "both":  # the words are read beside the tokens
            assert condition.tokens is not None
            assert torch.equal(condition.tokens.tokens[:, :text], condition.text.words)
            assert condition.tokens.mask[:, :text].all()


def test_a_lesson_reaches_all_that_is_trained_and_is_learnt(
    taught: tuple[WayIn, StartLoss], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lesson = taught
    monkeypatch.setattr(starts, "choose", lambda *_: (0, "tokens"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    losses = []
    for _ in range(8):
        loss = sum(lesson(model, torch.Generator().manual_seed(0)).values())
        optimiser.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert all(parameter.grad is not None for parameter in trained)
    assert {id(p) for p in model.start().parameters()} <= {id(p) for p in trained}
    assert not any(parameter.requires_grad for parameter in lesson.backbone.parameters())
    assert losses[-1] < 0.95 * losses[0]


def test_an_averaged_attention_is_measured_and_not_the_one_it_was_copied_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starts, "sample", partial(starts.sample, steps=2))
    budget = Budget(minutes=1, work=tmp_path, cache=tmp_path / "cache", workers=1)
    torch.manual_seed(0)
    backbone = load_backbone()
    model = Attention(backbone)
    average = deepcopy(model)
    for parameter in model.net.values.parameters():
        torch.nn.init.normal_(parameter)
    own, other = (measure(net, backbone, budget, people=10) for net in (average, model))
    assert own != other
    assert measure(average, backbone, budget, people=10) == own
    assert (tmp_path / "attention_start.png").is_file()


@pytest.mark.slow
def test_a_net_that_follows_landmarks_is_measured_as_better_than_one_that_does_not(
    backbone, tmp_path: Path
) -> None:
    budget = Budget(minutes=1, work=tmp_path, cache=tmp_path / "cache", workers=1)
    torch.manual_seed(0)
    trained, untrained = (
        measure(Branch(backbone, from_shipped=shipped), backbone, budget, people=10)
        for shipped in (True, False)
    )
    assert trained["landmark_error_px"] < 2 < 3 < untrained["landmark_error_px"]
    assert -1 <= untrained["likeness"] <= 1
    assert (tmp_path / "controlnet.png").is_file()
