import math

import pytest
import torch

from portraitlab.faces.alignment import ARCFACE, FACENET, TEMPLATE, WIDE, Frame, align, similarity


def dots(points: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """An image with a soft spot at each point, brightest at the point."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    spots = [torch.exp(-((x - px * width) ** 2 + (y - py * height) ** 2) / 4) for px, py in points]
    return torch.stack(spots).amax(0)[None, None]


@pytest.mark.parametrize(("angle", "scale"), [(0.0, 1.0), (0.7, 0.4), (-2.5, 30.0)])
def test_similarity_recovers_rotation_scale_and_shift(angle: float, scale: float) -> None:
    cosine, sine = math.cos(angle), math.sin(angle)
    expected = torch.tensor(
        [[scale * cosine, -scale * sine, 3.0], [scale * sine, scale * cosine, -2.0]]
    )
    keypoints = TEMPLATE @ expected[:, :2].T + expected[:, 2]
    torch.testing.assert_close(similarity(keypoints[None])[0], expected, atol=1e-4, rtol=1e-5)


def test_similarity_is_the_least_squares_one() -> None:
    generator = torch.Generator().manual_seed(0)
    keypoints = TEMPLATE + 0.1 * torch.randn(1, 5, 2, generator=generator)
    # The same fit by a general solver: unknowns (a, b, tx, ty) of [[a, -b], [b, a]].
    x, y = TEMPLATE.unbind(1)
    one, zero = torch.ones(5), torch.zeros(5)
    rows = torch.cat([torch.stack([x, -y, one, zero], 1), torch.stack([y, x, zero, one], 1)])
    a, b, tx, ty = torch.linalg.lstsq(rows, keypoints[0].T.flatten()).solution
    expected = torch.stack([torch.stack([a, -b, tx]), torch.stack([b, a, ty])])
    torch.testing.assert_close(similarity(keypoints)[0], expected, atol=1e-5, rtol=1e-4)


def test_keypoints_land_on_the_template_also_in_images_that_are_not_square() -> None:
    height, width, size = 80, 120, 48
    turn = torch.tensor([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    pixels = 50 * TEMPLATE @ turn.T + torch.tensor([45.0, 10.0])
    keypoints = pixels / torch.tensor([width, height])
    crop = align(dots(keypoints, height, width), keypoints[None], size)[0, 0]
    expected = dots(TEMPLATE, size, size)[0, 0]
    assert expected.max() > 0.9
    assert (crop - expected).abs().max() < 0.2


def test_a_crop_of_the_whole_image_is_the_image() -> None:
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    crops = align(images, TEMPLATE.expand(2, -1, -1), 48)
    torch.testing.assert_close(crops, images, atol=1e-4, rtol=1e-4)


def test_coinciding_keypoints_give_a_finite_crop() -> None:
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert align(images, torch.full((1, 5, 2), 0.5), 8).isfinite().all()


def test_gradient_reaches_images_and_not_keypoints() -> None:
    images = torch.randn(1, 3, 16, 16, requires_grad=True)
    keypoints = TEMPLATE[None].clone().requires_grad_(True)
    align(images, keypoints, 8).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert keypoints.grad is None


@pytest.mark.parametrize("frame", [WIDE, ARCFACE, FACENET], ids=["wide", "arcface", "facenet"])
def test_crops_are_differentiable_in_the_images(frame: Frame) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 2, 9, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    keypoints = 0.3 + 0.4 * torch.rand(2, 5, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda seen: align(seen, keypoints, 5, frame), images)


@pytest.mark.parametrize("frame", [WIDE, ARCFACE, FACENET], ids=["wide", "arcface", "facenet"])
def test_points_on_a_frame_s_template_are_the_whole_image(frame: Frame) -> None:
    identity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(similarity(frame.template[None], frame)[0], identity)
    coinciding = similarity(torch.full((1, 5, 2), 0.5), frame)
    assert coinciding.isfinite().all()


def test_the_fit_in_the_crop_is_umeyama_s() -> None:
    from skimage.transform import SimilarityTransform

    keypoints = ARCFACE.template + 0.1 * torch.randn(
        1, 5, 2, generator=torch.Generator().manual_seed(0)
    )
    to_crop = SimilarityTransform.from_estimate(keypoints[0].numpy(), ARCFACE.template.numpy())
    expected = torch.from_numpy(to_crop.inverse.params[:2]).float()
    torch.testing.assert_close(similarity(keypoints, ARCFACE)[0], expected, atol=1e-5, rtol=1e-4)
