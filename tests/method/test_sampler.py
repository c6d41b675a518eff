import pytest
import torch

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.method.sampler.dpmpp_sde import DPMppSDE
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


@pytest.mark.parametrize("sampler", [DDIM(3), DDIM(3, eta=1.0), DPMppSDE(3)])
def test_an_image_does_not_depend_on_its_neighbours(model, tiny_batch, sampler) -> None:
    batch = tiny_batch()
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
        ({"steps": 0}, r"sampler\.steps=0: a whole number from 1 is needed"),
        ({"guidance": -1.0}, r"sampler\.guidance=-1\.0: a number from 0 is needed"),
        ({"guidance": float("nan")}, r"sampler\.guidance=nan: a number from 0 is needed"),
        ({"guidance": float("inf")}, r"sampler\.guidance=inf: a number from 0 is needed"),
        ({"eta": 2.0}, r"sampler\.eta=2\.0: a number from 0 up to 1 is needed"),
        ({"guidance_drops": "all"}, r"sampler\.guidance_drops=all: choose one of"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        DDIM(**settings)


def slow_dpmpp_sde(model, batch, seeds, steps, guidance):
    """Lu et al. (2022): SDE-DPM-Solver++, of first and second order in turn, the last of first.

    The solution of the reverse SDE over half log signal-to-noise ratios from l to l + h is
    sigma' / sigma e^-h x + alpha' (1 - e^-2h) x0 + sigma' sqrt(1 - e^-2h) z, with x0 constant at
    first order, and extrapolated to the middle from the two estimates at second order.
    """
    backbone = model.backbone
    alphas = backbone.scheduler.alphas_cumprod
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise():
        return torch.stack([torch.randn(4, 16, 16, generator=each) for each in generators])

    def level(timestep):
        alpha = alphas[timestep].sqrt() if timestep >= 0 else torch.tensor(1.0)
        return alpha, (1 - alpha**2).sqrt()

    def clean(latents, timestep):
        timesteps = torch.full((len(batch),), timestep)
        given = model.predict(latents, timesteps, model.condition(batch))
        without = backbone.predict(
            latents, timesteps, backbone.encode_text([""] * len(batch)), Injection()
        )
        velocity = without + guidance * (given - without)
        alpha, sigma = level(timestep)
        return alpha * latents - sigma * velocity

    start = before = latents = noise()
    times = [round(999 * (1 - index / steps)) for index in range(steps)] + [-1]
    for index, timestep in enumerate(times[:-1]):
        estimate = clean(latents, timestep)
        second = index % 2 == 1 and index < steps - 1
        begun, x = (times[index - 1], start) if second else (timestep, latents)
        (alpha, sigma), (alpha_next, sigma_next) = level(begun), level(times[index + 1])
        h = (alpha_next / sigma_next).log() - (alpha / sigma).log()
        x0 = estimate
        if second:
            between = (level(timestep)[0] / level(timestep)[1]).log() - (alpha / sigma).log()
            x0 = before + 0.5 * (estimate - before) * h / between
        start, before = latents, estimate
        latents = (
            sigma_next / sigma * torch.exp(-h) * x
            + alpha_next * (1 - torch.exp(-2 * h)) * x0
            + sigma_next * (1 - torch.exp(-2 * h)).sqrt() * noise()
        )
    return backbone.decode(latents).clamp(-1, 1)


@pytest.mark.parametrize("steps", [4, 5])
def test_dpmpp_sde_agrees_with_the_papers_formula(model, tiny_batch, steps) -> None:
    batch, seeds = tiny_batch(), [4, 5, 6]
    fast = DPMppSDE(steps=steps, guidance=2.0).sample(model, batch, seeds)
    with torch.no_grad():
        slow = slow_dpmpp_sde(model, batch, seeds, steps, guidance=2.0)
    torch.testing.assert_close(fast, slow, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", [DDIM(5, 1.0), DDIM(5, 2.0), DPMppSDE(8)])
def test_the_calls_of_the_unet_are_counted(model, tiny_batch, sampler) -> None:
    calls = []
    model.backbone.unet.register_forward_hook(lambda *_: calls.append(1))
    sampler.sample(model, tiny_batch(), seeds=[1, 2, 3])
    assert len(calls) == sampler.unet_calls


def test_pure_noise_of_the_world_is_no_number_that_is_divided_by() -> None:
    from portraitlab.world.models.text_to_image import make_scheduler

    class Levels:
        scheduler, timesteps = make_scheduler(), 1000

    solver = DPMppSDE().scheduler(Levels())
    assert solver.sigmas.isfinite().all()
    assert len(solver.timesteps) == 8


@pytest.mark.parametrize("grad_last", [0, 1, 3])
def test_a_gradient_flows_through_the_last_steps_alone(model, tiny_batch, grad_last) -> None:
    seen = []
    predict = model.predict

    def watched(*inputs):
        seen.append(torch.is_grad_enabled())
        return predict(*inputs)

    model.predict = watched
    batch = tiny_batch()
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    drawn = DDIM(3, 1.0).trajectory(model, model.condition(batch), noise, grad_last=grad_last)
    assert seen == [False] * (3 - grad_last) + [True] * grad_last
    assert drawn.requires_grad is (grad_last > 0)
    with torch.no_grad():
        plain = DDIM(3, 1.0).trajectory(model, model.condition(batch), noise)
    torch.testing.assert_close(drawn.detach(), plain)


def test_the_gradient_of_all_steps_is_that_of_the_whole_chain(model, tiny_batch) -> None:
    batch, sampler = tiny_batch(), DDIM(2, 1.0)
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        found = [each.grad for each in model.trained_parameters()]
        model.zero_grad(set_to_none=True)
        assert all(each is not None for each in found)
        return found

    sampler.trajectory(model, model.condition(batch), noise, grad_last=2).square().mean().backward()
    kept = gradients()
    scheduler, latents = sampler.scheduler(model.backbone), noise
    for timestep in scheduler.timesteps:
        prediction = model.predict(latents, timestep.expand(3), model.condition(batch))
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    latents.square().mean().backward()
    for one, two in zip(kept, gradients(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)
