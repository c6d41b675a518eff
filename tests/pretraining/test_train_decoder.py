"""The decoder's further training: what it sees, what it changes and what it leaves alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from portraitlab.pretraining import decoder
from portraitlab.pretraining.autoencoder import PERSON_WEIGHT
from portraitlab.pretraining.decoder import (
    SMALL_FACE_WEIGHT,
    DecodedScenes,
    DecoderLoss,
    freeze_encoder,
)
from portraitlab.pretraining.loop import Budget
from portraitlab.pretraining.photos import load_photos
from portraitlab.pretraining.round_trips import face_round_trips
from portraitlab.pretraining.scenes import SceneStream, render_scenes
from portraitlab.pretraining.window import Window
from portraitlab.world.pretrained import load_autoencoder


@pytest.fixture(scope="module")
def window() -> Iterator[Window[DecodedScenes]]:
    made = SceneStream("foundation_check", DecodedScenes.of, size=3)
    yield Window(made, length=2, steps=2)
    made.close()


def test_scenes_follow_from_their_numbers() -> None:
    some = render_scenes("foundation_check", 5, 6)
    again = render_scenes("foundation_check", 8, 2)
    assert np.array_equal(some.images[3:5], again.images)
    assert some.captions[3:5] == again.captions
    assert some.images.shape == (6, 128, 128, 3)
    for mask, person, keypoints, people in zip(
        some.face_masks, some.person_masks, some.keypoints, some.people, strict=True
    ):
        assert mask.sum() > 10
        assert (person | ~mask).mean() > 0.999
        assert (keypoints.any((1, 2)) == (np.arange(4) < people)).all()


def test_a_window_gives_each_step_the_same_scenes_whenever_it_begins(
    window: Window[DecodedScenes],
) -> None:
    first = window.at(0)
    assert len(first) == 3
    assert window.at(1) is first
    with torch.autocast("cpu", torch.bfloat16):  # as in a training
        later = window.at(5)  # chunks 1 and 2
    assert len(later) == 6
    with threadpool_limits(1, user_api="blas"):  # as in the processes that render
        expected = render_scenes("foundation_check", 3, 6)
    assert torch.equal(later.images.permute(0, 2, 3, 1), torch.from_numpy(expected.images))
    assert set(window.chunks) == {1, 2}  # what is no longer used is dropped


def test_errors_on_small_faces_count_most(window: Window[DecodedScenes]) -> None:
    counted = window.at(0).weight.float().unique().tolist()
    assert counted == [1.0, PERSON_WEIGHT, SMALL_FACE_WEIGHT]


def test_only_the_decoder_learns_and_latents_stay_as_they_are(
    window: Window[DecodedScenes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "PORTRAITS", 4)
    monkeypatch.setattr(decoder, "SCENES", 2)
    photos = load_photos("foundation_check", identities=3, photos=2, cache=tmp_path, workers=1)
    lesson = DecoderLoss(photos, photos, window, Budget(1, tmp_path, tmp_path, seed=1))
    before, model = load_autoencoder(), freeze_encoder(load_autoencoder())
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    losses = []
    for step in (0, 2, 0, 2, 0, 2):
        loss = sum(lesson(model, torch.Generator().manual_seed(1_000_003 + step)).values())
        optimiser.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[4] < losses[0]  # portraits
    assert losses[5] < losses[1]  # scenes
    images = photos.pixels(torch.arange(3))
    old, new = (m.encode(images).latent_dist.parameters for m in (before, model))
    assert torch.equal(old, new)
    assert not torch.equal(before.decode(old[:, :4]).sample, model.decode(old[:, :4]).sample)


def test_a_small_face_loses_more_on_its_way_than_a_large_one() -> None:
    figures = face_round_trips(load_autoencoder(), people=6)
    assert list(figures)[:2] == ["real_425_at_64", "trip_425_at_64"]
    assert figures["trip_100_at_128"] < figures["trip_220_at_128"] - 0.1
    assert figures["real_100_at_128"] > figures["trip_100_at_128"] + 0.1
