"""Photos of the miniature world."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portraitlab.data.portrait import FRAME_CENTRE, FRAME_SPREAD
from portraitlab.world.camera import project
from portraitlab.world.identity import make_identity
from portraitlab.world.landmarks import KEYPOINTS_FROM_72, landmark_model
from portraitlab.world.render import render_photo
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES


def test_photos_are_the_renderers(photos) -> None:
    seed = IDENTITIES["train"][1]
    rendered = render_photo(seed, 2, size=32)
    row = 6 + 2
    store = photos.store
    assert (store.identity[row], store.name[row]) == (str(seed), "2")
    assert store.caption[row] == rendered.caption
    image = ((store.images([row])[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(image, rendered.image)
    np.testing.assert_array_equal(store.person_masks([row])[0].numpy(), rendered.person_mask)
    view = ((store.views([row])[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(view, render_photo(seed, 2, size=64).image)
    coefficients = store.true_coefficients([row])
    np.testing.assert_array_equal(coefficients.shape[0].numpy(), rendered.shape)
    np.testing.assert_array_equal(coefficients.pose[0].numpy(), rendered.pose)
    columns, person = store.table.columns(), rendered.people[0]
    np.testing.assert_array_equal(columns["face_mask"][[row]][0].numpy(), rendered.face_mask)
    for name in ("face_box", "joints", "visible"):
        np.testing.assert_array_equal(columns[name][[row]][0].numpy(), getattr(person, name))


@pytest.mark.parametrize(
    ("framing", "framings"),
    [
        ("portrait", ["portrait"] * 2),
        ("half", ["half"] * 2),
        ("bodies", ["half", "full"]),
        ("people", ["full", "portrait"]),
    ],
)
def test_the_light_is_rendered_again(world_data, frozen, framing, framings) -> None:
    store = world_data(framing=framing).train_photos(frozen).store
    seed = IDENTITIES["train"][1]
    true = [render_photo(seed, photo, 32, framings[photo - 2]) for photo in (2, 3)]
    lights = [photo.light.direction for photo in true]
    np.testing.assert_array_equal(store.true_light([6 + 2, 6 + 3]).numpy(), np.stack(lights))
    assert not np.array_equal(*lights)
    boxes = store.table.columns()["face_box"][[6 + 2, 6 + 3]]
    np.testing.assert_array_equal(boxes, [photo.people[0].face_box for photo in true])


def test_processes_render_what_one_does(world_data, photos, frozen, tmp_path) -> None:
    other = world_data(workers=2, cache=str(tmp_path / "other")).train_photos(frozen)
    assert other.store.key == photos.store.key
    rows = range(len(photos.store))
    assert torch.equal(other.store.images(rows), photos.store.images(rows))
    assert [*other.store.caption] == [*photos.store.caption]


def test_training_development_and_test_never_share_an_identity(world_data, frozen) -> None:
    train = set(world_data().train_photos(frozen).identities)
    test = set(world_data(split="test").score_photos(frozen).identities)
    development = set(world_data().score_photos(frozen).identities)
    assert len(train) == 3
    assert len(test) == len(development) == 2
    assert not train & test
    assert not train & development
    assert not test & development


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"split": "train"},
            "data.split=train: choose one of development, development_look_alikes, test, "
            "test_look_alikes",
        ),
        (
            {"identities": 0},
            "data.identities=0: a whole number from 1 to 100000 is needed for train",
        ),
        ({"score_identities": 10**6}, "data.score_identities=1000000: a whole number from 1 to"),
        ({"photos_per_identity": 1}, "data.photos_per_identity=1: a whole number from 2"),
        ({"judges": 0}, "data.judges=0: a whole number from 1 is needed, or references"),
    ],
)
def test_settings_out_of_range_are_refused(world_data, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        world_data(**settings)


def test_real_portraits_are_framed_as_the_worlds_photos() -> None:
    # as render_photo places them, without drawing, so that an exchange of x and y shows
    points = np.stack([keypoints(IDENTITIES["train"][n % 1000], n) for n in range(3000)])
    centres = points.mean(axis=1)
    spreads = np.sqrt(np.square(points - centres[:, None]).sum(-1).mean(-1))
    np.testing.assert_allclose(centres.mean(axis=0), FRAME_CENTRE, atol=0.004)
    assert spreads.mean() == pytest.approx(FRAME_SPREAD, rel=0.02)
    drawn = render_photo(IDENTITIES["train"][0], 0, 32).keypoints
    np.testing.assert_allclose(points[0], drawn, atol=1e-6)


def keypoints(identity_seed: int, photo_seed: int) -> np.ndarray:
    settings = make_settings(identity_seed, photo_seed)
    points = landmark_model().points(make_identity(identity_seed).shape, settings.expression)
    return project(points[list(KEYPOINTS_FROM_72)], settings.pose)
