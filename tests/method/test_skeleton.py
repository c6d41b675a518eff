"""Skeletons in OpenPose's colours, and landmarks or skeletons by the photo."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import make_geometry
from torch import Tensor

from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.cond.landmarks_or_skeleton import LandmarkOrSkeletonCond
from portraitlab.method.cond.skeleton import SkeletonCond, draw_skeleton
from portraitlab.types import BodyJoints, FaceGeometry
from portraitlab.world.canvas import render_canvas
from portraitlab.world.pretrained import load_face_model
from portraitlab.world.render import render_photo

# OpenPose's drawing for ControlNet (lllyasviel, 2023): colours of joints in RGB, and of limbs in
# the same order, as pairs of joints from 1.
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
LIMBS = (
    (2, 3), (2, 6), (3, 4), (4, 5), (6, 7), (7, 8), (2, 9), (9, 10), (10, 11), (2, 12), (12, 13),
    (13, 14), (2, 1), (1, 15), (15, 17), (1, 16), (16, 18),
)  # fmt: skip
SIZE = 256


def bodies(count: int = 1, seed: int = 0) -> BodyJoints:
    """Joints somewhere in the image, all visible."""
    generator = torch.Generator().manual_seed(seed)
    points = 0.1 + 0.8 * torch.rand(count, 18, 2, generator=generator)
    return BodyJoints(points, torch.ones(count, 18))


def geometry(count: int, coefficients: bool = True, body: bool = True) -> FaceGeometry:
    faces = make_geometry(torch.Generator().manual_seed(0), count, coefficients)
    return replace(faces, body=bodies(count) if body else None)


def colour_at(image: Tensor, point: Tensor) -> list[float]:
    """Red, green and blue in 0..255 at a point of one image [3, H, W]."""
    x, y = (point * image.shape[-1]).long().tolist()
    return (255 * (image[:, y, x] + 1) / 2).tolist()


def alone(*joints: int) -> BodyJoints:
    """A body of which only some joints are visible."""
    body = bodies()
    visible = torch.zeros(1, 18)
    visible[0, list(joints)] = 1
    return replace(body, visible=visible)


@pytest.mark.parametrize("joint", range(18))
def test_a_joint_is_a_dot_in_openposes_colour(joint: int) -> None:
    body = alone(joint)
    image = draw_skeleton(body, SIZE)[0]
    assert colour_at(image, body.points[0, joint]) == pytest.approx(COLOURS[joint], abs=1)
    lit = (image.amax(0) > -1).nonzero().flip(-1) + 0.5
    reach = (lit - SIZE * body.points[0, joint]).norm(dim=-1).max()
    assert reach < SIZE * 4 / 512 + 1  # its radius, in an image of 512, is 4


@pytest.mark.parametrize("limb", range(17))
def test_a_limb_joins_two_joints_in_openposes_colour(limb: int) -> None:
    first, second = (joint - 1 for joint in LIMBS[limb])
    body = alone(first, second)
    image = draw_skeleton(body, SIZE)[0]
    ends = body.points[0, [first, second]]
    dimmed = [0.6 * value for value in COLOURS[limb]]
    assert colour_at(image, ends.mean(0)) == pytest.approx(dimmed, abs=1)
    for joint, end in zip((first, second), ends, strict=True):
        assert colour_at(image, end) == pytest.approx(COLOURS[joint], abs=1)
    # One end hidden: neither it nor the limb is drawn.
    hidden = draw_skeleton(alone(first), SIZE)[0]
    assert colour_at(hidden, ends.mean(0)) == [0, 0, 0]
    assert colour_at(hidden, ends[1]) == [0, 0, 0]


def test_joints_that_no_limb_connects_have_no_line() -> None:
    connected = {frozenset(joint - 1 for joint in limb) for limb in LIMBS}
    for first in range(18):
        for second in range(first):
            image = draw_skeleton(alone(first, second), 64)[0]
            middle = bodies().points[0, [first, second]].mean(0)
            lit = any(colour_at(image, middle))
            near = (bodies().points[0, first] - bodies().points[0, second]).norm() < 0.05
            assert near or lit is (frozenset((first, second)) in connected), (first, second)


def test_where_a_hidden_joint_would_be_changes_nothing() -> None:
    body = bodies(18)
    visible = 1 - torch.eye(18)
    moved = body.points + torch.eye(18)[..., None] * torch.tensor([0.1, -0.05])
    before = draw_skeleton(BodyJoints(body.points, visible), 64)
    assert torch.equal(draw_skeleton(BodyJoints(moved, visible), 64), before)
    whole = draw_skeleton(body, 64)
    assert all(not torch.equal(one, two) for one, two in zip(whole, before, strict=True))
    nobody = draw_skeleton(BodyJoints(body.points, torch.zeros(18, 18)), 64)
    assert (nobody == -1).all()


def test_it_is_of_the_target_alone() -> None:
    shape, target = geometry(2), replace(geometry(2), body=bodies(2, seed=1))
    image = SkeletonCond()(shape, target, 64)
    assert image.shape == (2, 3, 64, 64)
    assert image.min() == -1
    assert image.max() <= 1
    assert torch.equal(image, SkeletonCond()(target, target, 64))
    assert torch.equal(image, draw_skeleton(target.body, 64))


def test_photos_without_joints_name_the_remedy() -> None:
    without = geometry(2, body=False)
    with pytest.raises(ValueError, match=r"needs the body's joints.*data=world.*cond=landmarks"):
        SkeletonCond()(without, without, 64)


def place_of(image: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """The mean place [2] of a colour in one image [3, H, W], as fractions."""
    value = torch.tensor(colour)[:, None, None] / 127.5 - 1
    near = ((image - value).abs().amax(0) < 0.1).nonzero().flip(-1) + 0.5
    assert len(near), "the colour is drawn"
    return near.mean(0) / image.shape[-1]


def test_the_worlds_joints_are_drawn_on_the_body() -> None:
    found = 0
    for seed in range(6):
        photo = render_photo(seed, 0)
        (person,) = photo.people
        body = BodyJoints(
            torch.from_numpy(person.joints)[None], torch.from_numpy(person.visible)[None].float()
        )
        image = draw_skeleton(body, SIZE)[0]
        if not person.visible[0]:
            continue
        found += 1
        nose = place_of(image, COLOURS[0])
        off = (nose - torch.from_numpy(person.face.keypoints)[2]).abs().max()
        assert off < 1 / 64  # a pixel of the photo
    assert found > 3
    photo = render_canvas([3], 0, "full")
    (person,) = photo.people
    ankles = [joint for joint in (10, 13) if person.visible[joint]]
    assert ankles
    body = BodyJoints(
        torch.from_numpy(person.joints)[None], torch.from_numpy(person.visible)[None].float()
    )
    image = draw_skeleton(body, SIZE)[0]
    for joint in ankles:
        x, y = (128 * place_of(image, COLOURS[joint])).long().tolist()
        assert person.region[y, x]


def test_stored_photos_keep_their_joints(photos) -> None:
    stored = photos.features.geometry.body
    assert stored.points.shape == (18, 18, 2)
    assert set(stored.visible.unique().tolist()) == {0, 1}
    nose = stored.visible[:, 0] == 1
    assert nose.any()
    # The stored keypoints are the untrained finder's, so the renderer's own are compared.
    image = SkeletonCond()(photos.features.geometry, photos.features.geometry, SIZE)
    for number in nose.nonzero().flatten().tolist():
        off = place_of(image[number], COLOURS[0]) - stored.points[number, 0]
        assert off.abs().max() < 1 / SIZE


@pytest.fixture
def either() -> LandmarkOrSkeletonCond:
    return LandmarkOrSkeletonCond(load_face_model())


def test_about_half_of_the_training_photos_show_a_skeleton(either) -> None:
    faces = geometry(400)
    drawn = either(faces, faces, 16)
    skeletons = SkeletonCond()(faces, faces, 16)
    landmarks = LandmarkCond(load_face_model())(faces, faces, 16)
    is_skeleton = (drawn == skeletons).flatten(1).all(1)
    is_landmarks = (drawn == landmarks).flatten(1).all(1)
    assert torch.equal(is_skeleton, ~is_landmarks)
    assert 0.4 < is_skeleton.float().mean() < 0.6


def test_a_photo_shows_the_same_in_every_batch_and_beside_every_reference(either) -> None:
    faces = geometry(40)
    whole = either(faces, faces, 16)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    again = either(faces[order], faces[order], 16)
    torch.testing.assert_close(again, whole[order])
    for number in range(5):
        one = faces[[number]]
        torch.testing.assert_close(either(one, one, 16), whole[[number]])
    kind = (whole == SkeletonCond()(faces, faces, 16)).flatten(1).all(1)
    other = either(faces[order], faces, 16)
    assert torch.equal((other == SkeletonCond()(faces, faces, 16)).flatten(1).all(1), kind)


@pytest.mark.parametrize("drawn", ["landmarks", "skeleton"])
def test_portraits_are_drawn_from_what_was_chosen(drawn) -> None:
    faces = geometry(20)
    cond = LandmarkOrSkeletonCond(load_face_model(), drawn).eval()
    alone = {"landmarks": LandmarkCond(load_face_model()), "skeleton": SkeletonCond()}[drawn]
    assert torch.equal(cond(faces, faces, 16), alone(faces, faces, 16))
    assert cond.draws


def test_a_face_without_a_body_is_restored_from_landmarks() -> None:
    faces = geometry(2, body=False)
    cond = LandmarkOrSkeletonCond(load_face_model(), "skeleton").eval()
    landmarks = LandmarkCond(load_face_model())(faces, faces, 16)
    assert torch.equal(cond.of_faces()(faces, faces, 16), landmarks)
    with pytest.raises(ValueError, match="needs the body's joints"):
        cond(faces, faces, 16)


def test_another_drawing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cond\.drawn=both: choose one of landmarks, skeleton"):
        LandmarkOrSkeletonCond(load_face_model(), "both")  # type: ignore[arg-type]
