"""The shipped frozen models: intact, frozen, and as good as foundation.json says."""

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch

from portraitlab.faces.alignment import align
from portraitlab.faces.encoder.face_encoder import matted
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.pretraining.all import STAGES
from portraitlab.pretraining.branches import RANKS, measure
from portraitlab.pretraining.canvases import load_canvases
from portraitlab.pretraining.clip import DATA as CLIPS
from portraitlab.pretraining.detector import accuracy
from portraitlab.pretraining.photos import load_photos
from portraitlab.pretraining.restorer import SIZE, restorations
from portraitlab.pretraining.samples import sample
from portraitlab.scoring.shading import shading
from portraitlab.types import Condition
from portraitlab.world.models.recognisers import ARCHITECTURES
from portraitlab.world.models.regressor import FRAMINGS
from portraitlab.world.pretrained import (
    WEIGHTS,
    MissingWeights,
    entry,
    load_backbone,
    load_canvas_backbone,
    load_canvas_controlnet,
    load_clip,
    load_controlnet,
    load_detector,
    load_dino,
    load_face_model,
    load_light,
    load_matching_net,
    load_quality,
    load_recogniser,
    load_regressor,
    load_restorer,
)
from portraitlab.world.render import render_photo
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

NOT_SHIPPED = {
    "decoder",
    "starts --which attention",
    "recognisers --which second_judge",
}
"""Stages without a file of their own yet; the decoder's is the autoencoder's."""
LISTING = json.loads((WEIGHTS / "foundation.json").read_text())
HELD_OUT = IDENTITIES["foundation_check"][1000:1040]


@pytest.fixture(scope="module")
def photos() -> tuple[torch.Tensor, torch.Tensor, list]:
    """Two photos each of held-out identities: images [P, 3, 64, 64], keypoints, and the photos."""
    shots = [render_photo(seed, photo) for seed in HELD_OUT for photo in range(2)]
    images = torch.stack(
        [torch.from_numpy(shot.image).permute(2, 0, 1) / 127.5 - 1 for shot in shots]
    )
    return images, torch.stack([torch.from_numpy(shot.keypoints) for shot in shots]), shots


def listed(*names: str) -> list[str]:
    """Those of some models that the package has."""
    return [name for name in names if name in LISTING]


@pytest.mark.parametrize("name", listed(*FRAMINGS))
def test_the_regressors_find_the_renderer_s_landmarks(name: str, photos) -> None:
    images, _, shots = photos
    model = load_regressor(name)
    geometry = model(images)
    assert (geometry.score > 0.5).float().mean() > 0.95
    truth = torch.stack([torch.from_numpy(shot.landmarks) for shot in shots])
    found = model.face_model.landmarks(geometry.coefficients)
    pixels = (found - truth).norm(dim=-1).mean() * 64
    assert pixels < 1.25 * entry(name)["training"]["landmark_error_px"]


def test_the_light_is_estimated_from_a_face(photos) -> None:
    images, _, shots = photos
    sound = [number for number, shot in enumerate(shots) if not shot.flaws]
    found = load_regressor("judge_regressor")(images[sound])
    estimated = load_light()(
        shading(images[sound], found.keypoints), found.coefficients.pose[:, :3]
    )
    true = torch.stack([torch.from_numpy(shots[number].light.direction) for number in sound])
    degrees = (estimated * true).sum(-1).clamp(-1, 1).acos().rad2deg().mean()
    assert degrees < 1.25 * entry("light")["training"]["error_degrees"]


@pytest.mark.parametrize("name", listed(*ARCHITECTURES))
def test_recognisers_know_people_again(name: str, photos) -> None:
    images, keypoints, _ = photos
    model = load_recogniser(name)
    embeddings = model(align(images, keypoints, model.crop_size))
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(len(images)))
    cosine = embeddings[0::2] @ embeddings[1::2].T
    same, other = cosine.diagonal(), cosine[~torch.eye(len(cosine), dtype=torch.bool)]
    assert same.mean() > 0.5
    assert other.mean().abs() < 0.15
    assert (same[:, None] > other[None, :]).float().mean() > 0.97


def test_recognisers_share_neither_architecture_nor_identities() -> None:
    names = listed(*ARCHITECTURES)
    assert len({type(load_recogniser(name).trunk) for name in names}) == len(names)
    for one, other in combinations(ARCHITECTURES, 2):
        assert not set(IDENTITIES[one]) & set(IDENTITIES[other])


@pytest.mark.parametrize(("load", "names"), [(load_clip, CLIPS), (load_regressor, FRAMINGS)])
def test_judging_and_conditioning_models_share_no_weights(load, names) -> None:
    one, *others = (dict(load(name).named_parameters()) for name in listed(*names))
    for other in others:
        for name, value in one.items():
            assert value.std() == 0 or not torch.equal(value, other[name]), name


@pytest.mark.skipif("judge_regressor" not in LISTING, reason="its training has not finished")
def test_the_judge_s_regressor_accepts_heads_of_any_size() -> None:
    shots = [render_photo(seed, 0, framing="varied") for seed in HELD_OUT]
    images = torch.stack([torch.from_numpy(shot.image) for shot in shots]).permute(0, 3, 1, 2)
    found = load_regressor("judge_regressor")(images / 127.5 - 1)
    assert (found.score > 0.5).float().mean() > 0.95
    truth = torch.stack([torch.from_numpy(shot.keypoints) for shot in shots])
    away = (found.keypoints - truth).norm(dim=-1).mean() * 64
    assert away < 1.5 * entry("judge_regressor")["training"]["landmark_error_px_varied"]


@pytest.mark.skipif("detector" not in LISTING, reason="its training has not finished")
def test_the_detector_finds_the_people_of_groups(tmp_path: Path) -> None:
    groups = load_canvases("foundation_check", 16, tmp_path, workers=1).by_kind()["group"]
    found, recorded = accuracy(load_detector(), groups), entry("detector")["training"]
    assert found["recall"] > recorded["recall_group"] - 0.1
    assert found["precision"] > recorded["precision_group"] - 0.1


def test_without_a_label_pictures_of_one_background_are_closer() -> None:
    photos = [make_settings(seed, 0) for seed in IDENTITIES["foundation_check"][1000:1160]]
    shots = [render_photo(seed, 0) for seed in IDENTITIES["foundation_check"][1000:1160]]
    images = torch.stack([torch.from_numpy(shot.image).permute(2, 0, 1) for shot in shots])
    seen = load_dino()(images / 127.5 - 1)
    cosine = (seen @ seen.T).fill_diagonal_(-1)
    names = [(photo.background, photo.background_colour) for photo in photos]
    found = [names[row] == names[nearest] for row, nearest in enumerate(cosine.argmax(1).tolist())]
    assert sum(found) / len(found) > 0.3  # chance is about 0.014


def test_the_autoencoder_s_round_trip(photos) -> None:
    images, _, _ = photos
    backbone = load_backbone()
    decoded = backbone.decode(backbone.encode(images)).clamp(-1, 1)
    error = ((decoded - images) / 2).square().mean(dim=(1, 2, 3))
    assert (-10 * error.log10()).mean() > entry("autoencoder")["training"]["psnr_db"] - 1


@pytest.mark.parametrize("name", listed(*CLIPS))
def test_captions_find_their_images(name: str, photos) -> None:
    images, _, shots = photos
    model = load_clip(name)
    similarity = (
        model.text_embedding([shot.caption for shot in shots]) @ model.image_embedding(images).T
    )
    groups = similarity.unflatten(0, (5, 16)).unflatten(2, (5, 16)).diagonal(dim1=0, dim2=2)
    first = (groups.argmax(1) == torch.arange(16)[:, None]).float().mean()
    assert first > 0.5
    assert model.patch_tokens(images[:2]).shape == (2, model.local_length, model.local_dim)


def test_a_text_is_read_to_its_end() -> None:
    one, other = load_clip().text_embedding(
        ["a photo of a person, light, pale skin", "a photo of a person, light, deep skin"]
    )
    assert one @ other < 0.9


def test_the_text_to_image_model_follows_words_for_looks() -> None:
    backbone = load_backbone()
    drawn = [
        sample(backbone, [f"a photo of a person in a red shirt, {tone} skin"] * 8, seed=0, steps=10)
        for tone in ("pale", "deep")
    ]
    pale, deep = (images[:, :, 24:40, 24:40].mean() for images in drawn)
    assert pale - deep > 0.3


def test_the_controlnet_draws_a_face_where_the_landmarks_are(photos) -> None:
    backbone, regressor, face_model = load_backbone(), load_regressor(), load_face_model()
    images, _, shots = photos
    geometry, prompts = regressor(images[:16]), [shot.description for shot in shots[:16]]
    drawing = LandmarkCond(face_model)(geometry, geometry, 64)
    text = backbone.encode_text(prompts)
    net = HiFiNet(backbone, True, False, False, noise_gate=1.0, start=load_controlnet())
    with torch.no_grad():
        condition = Condition(text, None, backbone.encode(drawing))
        drawn = sample(
            backbone, prompts, seed=0, steps=10,
            steer=lambda latents, levels: net(latents, levels, condition),
        )  # fmt: skip
    wanted = face_model.landmarks(geometry.coefficients)
    found = face_model.landmarks(regressor(drawn).coefficients)
    there = (found - wanted).norm(dim=-1).mean() * 64
    elsewhere = (found - wanted.roll(1, dims=0)).norm(dim=-1).mean() * 64
    assert there < 1.5
    assert elsewhere > 2 * there


def test_the_controlnet_of_bodies_draws_a_face_at_the_head_of_the_skeleton() -> None:
    measured = entry("canvas_controlnet")["training"]
    found = measure(load_canvas_controlnet(), load_canvas_backbone(), load_detector(), people=8)
    assert found["face_found"] > measured["face_found"] - 0.25
    assert found["face_px"] < 2 * measured["face_px"] < 8


def test_a_restored_face_is_nearer_to_the_clean_one(tmp_path: Path) -> None:
    photos = load_photos("foundation_check", 12, 2, tmp_path, workers=1, size=SIZE)
    found, recorded = restorations(load_restorer(), photos, torch.arange(24)), entry("restorer")
    for name in ("psnr_db", "cosine"):
        gain = found[f"{name}_restored"] - found[f"{name}_broken"]
        training = recorded["training"]
        assert gain > 0.5 * (training[f"{name}_restored"] - training[f"{name}_broken"]) > 0


def test_patch_tokens_are_standardised_over_references(photos) -> None:
    images, keypoints, shots = photos
    masks = torch.stack([torch.from_numpy(shot.person_mask) for shot in shots])
    references = align(matted(images, masks), keypoints, 64)
    model = load_clip()
    tokens = model.patch_tokens(references).flatten(0, 1)
    assert tokens.mean(0).abs().max() < 0.3
    assert (tokens.std(0) - 1).abs().max() < 0.3
    model.measure_patches(references)
    own = model.patch_tokens(references).flatten(0, 1)
    torch.testing.assert_close(own.mean(0), torch.zeros(160), atol=1e-3, rtol=0)
    torch.testing.assert_close(own.std(0), torch.ones(160), atol=1e-3, rtol=0)


def test_every_model_is_frozen_and_listed_with_its_quality() -> None:
    frozen = load_backbone(), load_clip(), load_recogniser("judge"), load_regressor()
    for model in (*frozen, load_controlnet(), load_quality(), load_light()):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    listing = json.loads((WEIGHTS / "foundation.json").read_text())
    commands = {described["training"]["command"] for described in listing.values()}
    assert commands == {
        f"python -m portraitlab.pretraining.{stage} --minutes {minutes:g}"
        for stage, minutes in STAGES
        if stage not in NOT_SHIPPED
    } | {listing[name]["training"]["command"] for name in RANKS}  # of runs, and not by minutes
    for described in listing.values():
        assert described["training"]["command"].startswith("python -m portraitlab.pretraining.")
        assert {"seed", "minutes", "steps"} <= set(described["training"])
    assert (
        sum((WEIGHTS / described["file"]).stat().st_size for described in listing.values()) < 70e6
    )


def test_missing_and_damaged_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"foundation\.json is missing"):
        load_recogniser("judge", tmp_path)
    shutil.copy(WEIGHTS / "foundation.json", tmp_path)
    empty = tmp_path / "other"
    empty.mkdir()
    shutil.copy(WEIGHTS / "foundation.json", empty)
    with pytest.raises(
        MissingWeights, match=r"judge.safetensors is missing. .*recognisers --which judge"
    ):
        load_recogniser("judge", empty)
    (empty / "judge.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(MissingWeights, match="has sha256"):
        load_recogniser("judge", empty)
    with pytest.raises(ValueError, match="no recogniser 'jury'; choose recogniser or judge"):
        load_recogniser("jury")


def test_loading_the_matching_net_leaves_the_random_state_as_it_is() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_matching_net()
    assert torch.equal(torch.rand(3), expected)
