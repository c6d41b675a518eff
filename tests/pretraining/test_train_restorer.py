"""The net of blind restoration: its crops, what breaks them, and what its figures compare."""

import pytest
import torch

from portraitlab.faces.framing import FRAME_CENTRE, FRAME_SPREAD
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.restorer import SIZE, cut_faces, degrade, restorations
from portraitlab.world.models.restorer import CONFIG, FaceRestorer


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> TrainingPhotos:
    cache = tmp_path_factory.mktemp("cache")
    return load_photos("foundation_check", 4, 2, cache, workers=1, size=SIZE)


@pytest.fixture(scope="module")
def clean(photos: TrainingPhotos) -> torch.Tensor:
    return cut_faces(photos, torch.arange(8), torch.Generator(), jitter=0.0)[0]


def test_faces_are_framed_as_edits_frame_them(photos: TrainingPhotos) -> None:
    crops, points = cut_faces(photos, torch.arange(8), torch.Generator(), jitter=0.0)
    assert crops.shape == (8, 3, SIZE, SIZE)
    centre = points.mean(1)
    spread = (points - centre[:, None]).square().sum(-1).mean(1).sqrt()
    torch.testing.assert_close(centre, torch.tensor(FRAME_CENTRE).expand(8, 2), atol=0.01, rtol=0)
    torch.testing.assert_close(spread, torch.full((8,), FRAME_SPREAD), atol=0.002, rtol=0)
    other = cut_faces(photos, torch.arange(8), torch.Generator().manual_seed(0))[1]
    assert 0.002 < (other - points).abs().mean() < 0.05


def test_images_are_degraded_each_by_its_own_draw(clean: torch.Tensor) -> None:
    same = clean[:1].expand(6, -1, -1, -1)
    broken = degrade(same, torch.Generator().manual_seed(0))
    assert torch.equal(broken, degrade(same, torch.Generator().manual_seed(0)))
    assert broken.shape == same.shape
    assert broken.abs().max() <= 1
    errors = (broken - same).square().mean((1, 2, 3))
    assert (errors > 1e-4).all()
    assert (errors < 0.2).all()
    assert len(errors.unique()) == 6


def test_a_new_net_returns_faces_of_any_size() -> None:
    net = FaceRestorer(**CONFIG)
    for size in (64, 128):
        images = torch.rand(2, 3, size, size) * 2 - 1
        assert torch.equal(net(images), images)
    net.head.bias.data += 1
    assert net(images).shape == images.shape
    assert not torch.equal(net(images), images)


def test_each_convolution_learns(clean: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = FaceRestorer([8, 16, 16], [1, 1, 1])
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    broken = degrade(clean, torch.Generator().manual_seed(0))
    losses = []
    for _ in range(20):
        loss = (net(broken) - clean).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.995 * losses[0]
    assert all(parameter.grad.any() for parameter in net.parameters())


def test_figures_compare_broken_and_restored_with_clean(photos: TrainingPhotos) -> None:
    found = restorations(FaceRestorer(**CONFIG), photos, torch.arange(8))
    assert found["psnr_db_restored"] == found["psnr_db_broken"]
    assert found["cosine_restored"] == found["cosine_broken"]
    assert 10 < found["psnr_db_broken"] < 40
    assert 0 < found["cosine_broken"] < 1
