"""Check the training data of the autoencoder."""

import math
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from portraitlab.pretraining.autoencoder import MOST_NOISE, face_cosine, spread, with_noise
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.world.pretrained import load_recogniser


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> TrainingPhotos:
    cache: Path = tmp_path_factory.mktemp("cache")
    return load_photos("foundation_check", identities=4, photos=2, cache=cache, workers=1)


def test_the_perceptual_loss_sees_who_it_is_and_only_what_was_decoded_learns(photos) -> None:
    recogniser, index = load_recogniser("recogniser"), torch.arange(0, 8, 2)
    images = photos.pixels(index).requires_grad_()
    same = face_cosine(recogniser, photos, index, images.detach().clone(), images.detach())
    torch.testing.assert_close(same, torch.ones(4), atol=1e-5, rtol=0)
    decoded = (images.detach() + 0.3 * torch.randn(images.shape)).requires_grad_()
    noisy = face_cosine(recogniser, photos, index, decoded, images.detach())
    assert (noisy < 0.99).all()
    (1 - noisy).mean().backward()
    assert decoded.grad is not None
    assert decoded.grad.abs().sum() > 0


def test_every_other_image_is_decoded_from_latents_that_bear_noise() -> None:
    mean = 3 * torch.randn(400, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    posterior = DiagonalGaussianDistribution(
        torch.cat([mean, torch.full_like(mean, 2 * math.log(0.01))], 1)
    )
    added = with_noise(posterior, torch.Generator().manual_seed(1)) - mean
    assert added[0::2].abs().max() < 0.06
    sizes = added[1::2].flatten(1).std(1)
    most = MOST_NOISE * 3
    assert 0.4 * most < sizes.mean() < 0.6 * most
    assert sizes.min() < 0.1 * most
    assert sizes.max() > 0.9 * most


def test_an_encoder_outgrows_no_noise(photos) -> None:
    latents = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    channels = torch.tensor([0.5, 1.0, 2.0, 4.0]).view(1, -1, 1, 1)
    size = torch.ones((), requires_grad=True)
    kept = channels * size * latents / spread(channels * size * latents)
    torch.testing.assert_close(spread(kept), torch.ones(1, 4, 1, 1))
    (slope,) = torch.autograd.grad(kept.square().sum(), size)
    assert abs(float(slope)) < 1e-3
