import pytest
import torch

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.types import Injection


@pytest.fixture
def model(tiny_backbone) -> PortraitModel:
    torch.manual_seed(0)
    backbone = tiny_backbone()
    fusion = GlobalFusion(10, 12, backbone.text_dim)
    model = PortraitModel(backbone, fusion, KeypointCond(), HiFiNet(backbone, True, True))
    for parameter in model.net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_image_does_not_depend_on_its_neighbours(model, tiny_batch, eta) -> None:
    sampler, batch = DDIM(steps=3, eta=eta), tiny_batch()
    together = sampler.sample(model, batch, seeds=[7, 8, 9])
    assert together.shape == (3, 3, 32, 32)
    assert together.abs().max() <= 1
    for index, seed in enumerate([7, 8, 9]):
        alone = sampler.sample(model, batch[index : index + 1], seeds=[seed])
        torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=1e-3)
    turned = sampler.sample(model, batch[[2, 0, 1]], seeds=[9, 7, 8])
    torch.testing.assert_close(turned, together[[2, 0, 1]], atol=1e-4, rtol=1e-3)


def test_the_seed_alone_decides_the_noise(model, tiny_batch) -> None:
    sampler, batch = DDIM(steps=2), tiny_batch()
    torch.manual_seed(0)
    first = sampler.sample(model, batch, seeds=[1, 2, 3])
    torch.manual_seed(1)
    assert torch.equal(sampler.sample(model, batch, seeds=[1, 2, 3]), first)
    other = sampler.sample(model, batch, seeds=[1, 2, 4])
    assert torch.equal(other[:2], first[:2])
    assert not torch.allclose(other[2], first[2])


def test_sampling_leaves_the_backbones_schedule_alone(model, tiny_batch) -> None:
    before = model.backbone.scheduler.timesteps.clone()
    DDIM(steps=2).sample(model, tiny_batch(), seeds=[1, 2, 3])
    assert torch.equal(model.backbone.scheduler.timesteps, before)


def slow_sample(model, batch, seeds, steps, guidance, drops):
    """Compute eq. 12 of Song et al. (2021) with sigma = 0 from the clean and the noise estimate.

    HiFi-Net reads identity tokens where it would read the prompt, so dropping the prompt alone
    leaves its residuals as they are.
    """
    backbone = model.backbone
    alphas = backbone.scheduler.alphas_cumprod
    latents = torch.stack(
        [torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    condition = model.condition(batch)
    empty = backbone.encode_text([""] * len(batch))
    levels = [round(1000 - index * 1000 / steps) - 1 for index in range(steps)]
    for level, following in zip(levels, [*levels[1:], -1], strict=True):
        timesteps = torch.full((len(batch),), level)
        given = model.predict(latents, timesteps, condition)
        injection = model.net(latents, timesteps, condition) if drops == "prompt" else Injection()
        without = backbone.predict(latents, timesteps, empty, injection)
        velocity = without + guidance * (given - without)
        alpha = alphas[level]
        clean = alpha.sqrt() * latents - (1 - alpha).sqrt() * velocity
        noise = alpha.sqrt() * velocity + (1 - alpha).sqrt() * latents
        alpha = alphas[following] if following >= 0 else torch.tensor(1.0)
        latents = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    return backbone.decode(latents).clamp(-1, 1)


@pytest.mark.parametrize("drops", ["everything", "prompt"])
def test_sampling_agrees_with_the_papers_formula(model, tiny_batch, drops) -> None:
    batch, seeds = tiny_batch(), [4, 5, 6]
    fast = DDIM(steps=4, guidance=2.0, guidance_drops=drops).sample(model, batch, seeds)
    with torch.no_grad():
        slow = slow_sample(model, batch, seeds, steps=4, guidance=2.0, drops=drops)
    torch.testing.assert_close(fast, slow, atol=1e-3, rtol=1e-3)


def test_what_guidance_drops_matters_and_guidance_1_ignores_it(model, tiny_batch) -> None:
    batch, seeds = tiny_batch(), [1, 2, 3]

    def sample(guidance: float, drops: str) -> torch.Tensor:
        return DDIM(2, guidance, guidance_drops=drops).sample(model, batch, seeds)

    assert not torch.allclose(sample(3.0, "everything"), sample(3.0, "prompt"))
    assert torch.equal(sample(1.0, "everything"), sample(1.0, "prompt"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "sampler.steps is 0; it must be 1 or more"),
        ({"guidance": -1.0}, r"sampler.guidance is -1.0; it must be 0 or more"),
        ({"guidance": float("nan")}, "sampler.guidance is nan; it must be 0 or more"),
        ({"guidance": float("inf")}, "sampler.guidance is inf; it must be 0 or more"),
        ({"eta": 2.0}, "sampler.eta is 2.0; it must be between 0 and 1"),
        ({"guidance_drops": "all"}, "sampler.guidance_drops is 'all'; choose one of"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        DDIM(**settings)
