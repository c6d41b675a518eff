"""Augmentation moves landmarks, masks and boxes with the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from portraitlab.data.augment import (
    DEGREES,
    SCALES,
    SHIFT,
    Placement,
    augmented,
    augmented_photos,
)
from portraitlab.data.targets import string_seed
from portraitlab.method.cond.drawing import Stroke, draw
from portraitlab.types import FaceCoefficients
from portraitlab.world.pretrained import load_face_model
from portraitlab.world.render import render_photo

SIZE = 64
PLACEMENTS = [
    Placement(0.7, 0.0, (0.0, 0.0)),
    Placement(1.0, 15.0, (0.0, 0.0)),
    Placement(1.0, 0.0, (0.08, -0.05)),
    Placement(0.62, -13.0, (-0.07, 0.06)),
]


def photo_of(identity: int = 1, number: int = 2) -> Mapping[str, Any]:
    photo = render_photo(identity, number, SIZE)
    person = photo.people[0]
    return {
        "identity": str(identity), "name": str(number), "caption": photo.caption,
        "image": photo.image, "person_mask": photo.person_mask, "face_mask": photo.face_mask,
        "face_box": person.face_box, "joints": person.joints, "true_pose": photo.pose,
        "true_shape": photo.shape, "true_expression": photo.expression,
    }  # fmt: skip


def landmarks(photo: Mapping[str, Any]) -> np.ndarray:
    coefficients = (photo[f"true_{name}"] for name in ("shape", "expression", "pose"))
    given = FaceCoefficients(*(torch.tensor(each)[None] for each in coefficients))
    return load_face_model().landmarks72(given)[0].numpy()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_dot_in_the_picture_lands_where_its_point_does(placement: Placement) -> None:
    for point in ([0.3, 0.4], [0.6, 0.55], [0.5, 0.35]):
        dot = draw(torch.tensor([[point]]), [Stroke(((0, 0),), (1.0, 1.0, 1.0), 0.08)], SIZE)[0]
        pixels = ((dot.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
        light = placement.picture(pixels)[..., 0].astype(float)
        places = np.arange(SIZE) + 0.5
        centre = np.array([light.sum(0) @ places, light.sum(1) @ places]) / light.sum()
        moved = SIZE * placement.points(np.array(point))
        assert np.abs(centre - moved).max() < 0.5


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_moved_pose_projects_landmarks_where_they_are_moved(placement: Placement) -> None:
    photo = photo_of()
    moved = {**photo, "true_pose": placement.pose(photo["true_pose"])}
    off = SIZE * np.abs(landmarks(moved) - placement.points(landmarks(photo)))
    assert off.max() < 0.01


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_moved_mask_covers_the_moved_face(placement: Placement) -> None:
    photo = photo_of()
    mask = placement.mask(photo["face_mask"])
    rows, columns = np.nonzero(mask)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIZE
    before = np.nonzero(photo["face_mask"])
    points = np.stack([before[1], before[0]], -1) + 0.5
    moved = placement.points(points / SIZE)
    # Half a pixel, and the half of a moved pixel's own extent.
    reach = 0.5 + 0.71 * placement.scale
    assert np.abs(found[:2] - moved.min(0)).max() * SIZE < reach
    assert np.abs(found[2:] - moved.max(0)).max() * SIZE < reach
    assert mask.sum() == pytest.approx(placement.scale**2 * photo["face_mask"].sum(), rel=0.05)
    box = placement.box(photo["face_box"])
    inner = placement.points(landmarks(photo)[:68])
    assert (inner >= box[:2] - 1e-6).all()
    assert (inner <= box[2:] + 1e-6).all()


def test_copies_are_named_differ_and_depend_on_the_photo_alone() -> None:
    photos = [photo_of(1, 2), photo_of(2, 2)]
    made = list(augmented(photos, 2))
    assert [each["name"] for each in made] == ["2", "2+1", "2+2"] * 2
    assert made[0] is photos[0]
    assert [each["caption"] for each in made[:3]] == [photos[0]["caption"]] * 3
    assert not np.array_equal(made[1]["image"], made[2]["image"])
    again = list(augmented(photos[1:], 1))
    assert np.array_equal(again[1]["image"], made[4]["image"])
    assert list(augmented(photos, 0)) == photos


def test_placements_are_within_their_ranges() -> None:
    drawn = [Placement.draw(np.random.default_rng(seed)) for seed in range(200)]
    scales = [each.scale for each in drawn]
    assert SCALES[0] <= min(scales) < 0.65
    assert 0.95 < max(scales) <= SCALES[1]
    assert 0.9 * DEGREES < max(abs(each.degrees) for each in drawn) <= DEGREES
    assert 0.9 * SHIFT < max(max(map(abs, each.shift)) for each in drawn) <= SHIFT


def test_training_photos_have_their_copies_beside_them(photos, frozen, tmp_path) -> None:
    made = augmented_photos(photos, 2, tmp_path, frozen)
    store, before = made.store, photos.store
    assert len(store) == 3 * len(before)
    assert made.identities == photos.identities
    assert set(store.name) == {
        f"{name}{copy}" for name in set(before.name) for copy in ("", "+1", "+2")
    }
    members, own = made.rows(), photos.rows()
    for identity, rows in members.items():
        originals = rows[::3]
        assert torch.equal(store.images(originals), before.images(own[identity]))
        assert [store.flawed[row] for row in rows[1::3]] == [
            before.flawed[row] for row in own[identity]
        ]
        for row in rows[1::3]:
            placement = Placement.draw(
                np.random.default_rng(
                    string_seed("augment", identity, store.name[row].partition("+")[0], 1)
                )
            )
            pose = before.true_coefficients([own[identity][rows.index(row) // 3]]).pose[0].numpy()
            moved = store.true_coefficients([row]).pose[0].numpy()
            np.testing.assert_allclose(moved, placement.pose(pose), atol=1e-6)
            first = own[identity][rows.index(row) // 3]
            for name, move in (("face_box", placement.box), ("joints", placement.points)):
                stored = [each.table.columns()[name] for each in (store, before)]
                now, then = (
                    np.asarray(s[[r]][0]) for s, r in zip(stored, (row, first), strict=True)
                )
                np.testing.assert_allclose(now, move(then), atol=1e-6)
    again = augmented_photos(photos, 2, tmp_path, frozen)
    assert torch.equal(
        again.features.latents[torch.arange(4)], made.features.latents[torch.arange(4)]
    )
    assert len(list((tmp_path / "photos").glob("[!.]*"))) == 1


def test_copies_of_bodies_keep_their_close_ups_and_move_both(world_data, frozen, tmp_path) -> None:
    photos = world_data(framing="half").train_photos(frozen)
    made = augmented_photos(photos, 1, tmp_path, frozen)
    assert made.store.close_ups
    # A photo comes before its copy, and stays as it was.
    before, after = photos.features.geometry, made.features.geometry
    for row in range(3):
        photo, copy = before[[row]], after[[2 * row + 1]]
        torch.testing.assert_close(after[[2 * row]].keypoints, photo.keypoints)
        seed = string_seed("augment", photos.store.identity[row], photos.store.name[row], 1)
        placement = Placement.draw(np.random.default_rng(seed))
        expected = placement.points(photo.keypoints[0].numpy())
        np.testing.assert_allclose(copy.keypoints[0].numpy(), expected, atol=1e-5)
        moved = placement.pose(photo.coefficients.pose[0].numpy())
        np.testing.assert_allclose(copy.coefficients.pose[0].numpy(), moved, atol=1e-5)
        mask = placement.mask(photos.store.view_masks([row])[0].numpy())
        np.testing.assert_array_equal(made.store.view_masks([2 * row + 1])[0].numpy(), mask)
