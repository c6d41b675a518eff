import pytest
import torch
from diffusers import DDIMScheduler

from portraitlab.diffusion.backbone import Backbone
from portraitlab.types import Injection, TextFeatures


def test_sizes(tiny_backbone) -> None:
    backbone = tiny_backbone()
    assert (backbone.latent_channels, backbone.latent_size, backbone.image_size) == (4, 16, 32)
    assert (backbone.text_dim, backbone.timesteps) == (16, 1000)
    assert backbone.encode(torch.zeros(2, 3, 32, 32)).shape == (2, 4, 16, 16)
    assert backbone.decode(torch.zeros(2, 4, 16, 16)).shape == (2, 3, 32, 32)
    assert backbone.encode_text(["a man", ""]).words.shape == (2, 8, 16)


def test_everything_stays_frozen_and_in_evaluation_mode(tiny_backbone) -> None:
    backbone = tiny_backbone().train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())


def test_latents_are_shifted_and_scaled_per_channel_both_ways(tiny_backbone) -> None:
    parts = tiny_backbone()
    scale, shift = [0.5, 1.0, 2.0, 4.0], [0.0, 1.0, -1.0, 2.0]
    backbone = Backbone(
        parts.unet,
        parts.autoencoder,
        parts.text_encoder,
        parts.tokenizer,
        parts.scheduler,
        scale,
        shift,
    )
    images = torch.randn(1, 3, 32, 32)
    mode = parts.autoencoder.encode(images).latent_dist.mode()
    expected = (mode - torch.tensor(shift).view(1, 4, 1, 1)) * torch.tensor(scale).view(1, 4, 1, 1)
    torch.testing.assert_close(backbone.encode(images), expected)
    torch.testing.assert_close(backbone.decode(expected), parts.autoencoder.decode(mode).sample)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_true_target_gives_back_the_clean_latents(tiny_backbone, prediction_type) -> None:
    backbone = tiny_backbone(prediction_type=prediction_type)
    latents, noise = torch.randn(3, 4, 16, 16), torch.randn(3, 4, 16, 16)
    timesteps = torch.tensor([0, 400, 900])
    noisy = backbone.add_noise(latents, noise, timesteps)
    target = backbone.training_target(latents, noise, timesteps)
    clean = backbone.clean_estimate(noisy, target, timesteps)
    torch.testing.assert_close(clean, latents, atol=1e-4, rtol=1e-4)


def test_gradients_flow_through_the_frozen_parts(tiny_backbone) -> None:
    backbone = tiny_backbone()
    latents = torch.randn(1, 4, 16, 16, requires_grad=True)
    words = torch.randn(1, 8, 16, requires_grad=True)
    prediction = backbone.predict(latents, torch.tensor([500]), TextFeatures(words), Injection())
    backbone.decode(prediction).sum().backward()
    assert latents.grad.abs().sum() > 0
    assert words.grad.abs().sum() > 0


def test_fingerprint_tells_weights_apart(tiny_backbone) -> None:
    assert tiny_backbone(seed=0).fingerprint == tiny_backbone(seed=0).fingerprint
    assert tiny_backbone(seed=0).fingerprint != tiny_backbone(seed=1).fingerprint


def test_other_prediction_types_are_refused(tiny_backbone) -> None:
    parts = tiny_backbone()
    with pytest.raises(ValueError, match=r"prediction_type is 'sample'.*epsilon and v_prediction"):
        Backbone(
            parts.unet,
            parts.autoencoder,
            parts.text_encoder,
            parts.tokenizer,
            DDIMScheduler(prediction_type="sample"),
        )
