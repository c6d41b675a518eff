from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.faces.face3d.fitter import with_pupils_and_temples
from portraitlab.faces.face3d.linear import LinearFaceModel
from portraitlab.method.cond.black import BlackCond
from portraitlab.method.cond.drawing import Stroke, draw
from portraitlab.method.cond.drive_landmarks import DriveLandmarkCond
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.cond.landmarks5 import FiveLandmarkCond
from portraitlab.method.cond.landmarks72 import Landmark72Cond
from portraitlab.method.cond.none import NoCond
from portraitlab.types import FaceCoefficients, FaceGeometry
from portraitlab.world.pretrained import load_face_model

SIZE = 64


@pytest.fixture
def faces(tiny_batch) -> tuple[FaceGeometry, FaceGeometry]:
    batch = tiny_batch()
    return batch.shape_geometry, batch.target_geometry


def brightness_at(image: Tensor, points: Tensor) -> Tensor:
    """The brightest channel in [0, 1] at points [P, 2] of one image [3, H, W]."""
    x, y = (points * image.shape[-1]).long().clamp(0, image.shape[-1] - 1).unbind(-1)
    return (image[:, y, x].amax(0) + 1) / 2


def test_landmarks_are_drawn_where_they_are_and_nowhere_else(faces) -> None:
    shape, target = faces
    model = load_face_model()
    images = LandmarkCond(model)(shape, target, SIZE)
    assert images.shape == (3, 3, SIZE, SIZE)
    assert images.min() == -1
    assert images.max() <= 1
    mixed = FaceCoefficients(
        shape.coefficients.shape, target.coefficients.expression, target.coefficients.pose
    )
    points = model.landmarks(mixed)
    for image, landmarks in zip(images, points, strict=True):
        assert brightness_at(image, landmarks).min() > 0.2
        lit = (image.amax(0) > -1).nonzero().flip(-1) + 0.5
        # The longest line between neighbours, plus a line's width, bounds how far a lit pixel is.
        reach = torch.cdist(lit / SIZE, landmarks).amin(1).max()
        assert reach < (landmarks[1:] - landmarks[:-1]).norm(dim=-1).max()


def test_landmarks_take_the_reference_shape_and_the_targets_expression_and_pose(faces) -> None:
    shape, target = faces
    cond = LandmarkCond(load_face_model())
    image = cond(shape, target, SIZE)

    def changed(geometry: FaceGeometry, field: str) -> FaceGeometry:
        value = getattr(geometry.coefficients, field) + 0.3
        return replace(geometry, coefficients=replace(geometry.coefficients, **{field: value}))

    assert not torch.equal(image, cond(changed(shape, "shape"), target, SIZE))
    for field in ("expression", "pose"):
        assert not torch.equal(image, cond(shape, changed(target, field), SIZE))
        assert torch.equal(image, cond(changed(shape, field), target, SIZE))
    assert torch.equal(image, cond(shape, changed(target, "shape"), SIZE))


def test_72_landmarks_add_pupils_and_temples_to_the_68(faces) -> None:
    shape, target = faces
    model = load_face_model()
    fewer = LandmarkCond(model)(shape, target, SIZE)
    more = Landmark72Cond(model)(shape, target, SIZE)
    mixed = LandmarkCond(model).mixed(shape, target)
    points = model.landmarks72(mixed)
    assert points.shape == (3, 72, 2)
    assert torch.equal(points[:, :68], model.landmarks(mixed))
    for old, new, four in zip(fewer, more, points[:, 68:], strict=True):
        assert brightness_at(new, four).min() > 0.9
        differs = (old != new).any(0).nonzero().flip(-1) + 0.5
        assert torch.cdist(differs / SIZE, four).amin(1).max() < 0.05


def test_pupils_and_temples_are_derived_where_a_model_has_none(faces) -> None:
    own = load_face_model()
    bare = LinearFaceModel(
        own.mean[:68], own.shape_basis[:, :68], own.expression_basis[:, :68], (0, 1, 2, 3, 4)
    )
    mixed = LandmarkCond(own).mixed(*faces)
    derived, true = bare.landmarks72(mixed), own.landmarks72(mixed)
    torch.testing.assert_close(derived, with_pupils_and_temples(own.landmarks(mixed)))
    size = (true.amax(1) - true.amin(1)).amax(-1, keepdim=True)
    off = (derived - true).norm(dim=-1) / size
    assert off[:, 68:70].max() < 0.05  # of the face
    assert off[:, 70:].max() < 0.35  # the world's own temples are at the top of the forehead


def test_72_landmarks_are_of_the_reference_or_the_drive_image(faces) -> None:
    shape, target = faces
    model = load_face_model()
    predicted = Landmark72Cond(model)(shape, target, SIZE)
    drive = DriveLandmarkCond(model)(shape, target, SIZE)
    assert not torch.equal(predicted, drive)
    assert torch.equal(drive, Landmark72Cond(model)(target, target, SIZE))


def test_black_is_a_control_image_that_shows_nothing(faces) -> None:
    image = BlackCond()(*faces, SIZE)
    assert image.shape == (3, 3, SIZE, SIZE)
    assert (image == -1).all()
    assert BlackCond().draws


def test_landmarks_without_coefficients_name_the_remedy(tiny_batch) -> None:
    batch = tiny_batch(coefficients=False)
    with pytest.raises(ValueError, match="encoder gives none; choose face3d=bfm or face3d=flame"):
        LandmarkCond(load_face_model())(batch.shape_geometry, batch.target_geometry, SIZE)


def test_coefficients_of_another_model_name_the_remedy(faces) -> None:
    shape, target = faces
    own = load_face_model()
    fewer = LinearFaceModel(own.mean, own.shape_basis[:5], own.expression_basis, (0, 1, 2, 3, 4))
    message = r"gives 18 coefficients of shape and 8 of .* has 5 and 8: .* face3d=none with encoder"
    with pytest.raises(ValueError, match=message):
        LandmarkCond(fewer)(shape, target, SIZE)


@pytest.mark.parametrize("cond", [KeypointCond(), FiveLandmarkCond()])
def test_keypoints_are_drawn_at_the_targets(cond, faces) -> None:
    shape, target = faces
    images = cond(shape, target, SIZE)
    for image, keypoints in zip(images, target.keypoints, strict=True):
        assert brightness_at(image, keypoints).min() > 0.9
        corners = image[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners == -1).all()
    assert torch.equal(images, cond(target, target, SIZE))


def test_keypoints_have_limbs_and_colours_and_landmarks5_have_not(faces) -> None:
    shape, target = faces
    limbs = KeypointCond()(shape, target, SIZE)[0]
    dots = FiveLandmarkCond()(shape, target, SIZE)[0]
    eye, nose = target.keypoints[0, 0], target.keypoints[0, 2]
    halfway = ((eye + nose) / 2)[None]
    assert brightness_at(limbs, halfway) > 0.3
    assert brightness_at(dots, halfway) == 0
    assert torch.equal(dots[0], dots[1])
    assert not torch.equal(limbs[0], limbs[1])


def test_none_draws_nothing(faces) -> None:
    assert NoCond()(*faces, SIZE) is None
    assert not NoCond().draws


def test_a_line_covers_its_area() -> None:
    line = Stroke(((0, 1),), (1.0, 0.5, 0.0), width=0.1)
    image = (draw(torch.tensor([[[0.2, 0.43], [0.8, 0.43]]]), [line], 100)[0] + 1) / 2
    # Sixty pixels long, ten wide, with round ends of radius five.
    assert image[0].sum().item() == pytest.approx(600 + 3.1416 * 25, rel=0.01)
    assert image[1].sum().item() == pytest.approx(image[0].sum().item() / 2, rel=1e-5)
    assert image[2].sum() == 0


def test_a_drawing_looks_the_same_at_every_size() -> None:
    points = torch.tensor([[[0.3, 0.3], [0.7, 0.6]]])
    line = Stroke(((0, 1),), (1.0, 1.0, 1.0), width=0.1)
    small, large = draw(points, [line], 64), draw(points, [line], 256)
    assert (functional.avg_pool2d(large, 4) - small).abs().mean() < 0.01


def test_points_outside_the_image_leave_it_empty() -> None:
    line = Stroke(((0, 1),), (1.0, 1.0, 1.0), width=0.1)
    image = draw(torch.tensor([[[2.0, 2.0], [-5.0, 9.0]]]), [line], 16)
    assert (image == -1).all()
