"""HiFi-Net reads the drawing relative to a black one, and the noise only with reads_noise."""

import pytest
import torch

from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.types import Condition, IdentityTokens


def test_an_empty_drawing_adds_nothing_however_the_path_is_trained(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = HiFiNet(backbone, control=True, identity=False)
    size, edge = backbone.image_size, backbone.latent_size
    torch.manual_seed(0)
    for block in net.controlnet.controlnet_down_blocks:
        torch.nn.init.normal_(block.weight)
    noisy = torch.randn(1, backbone.latent_channels, edge, edge)
    black = -torch.ones(1, 3, size, size)
    drawn = black.clone()
    drawn[..., : size // 2] = 1

    def residual(image: torch.Tensor) -> torch.Tensor:
        condition = Condition(backbone.encode_text([""]), None, backbone.encode(image))
        down = net(noisy, torch.tensor([500]), condition).down
        assert down is not None
        return down[0]

    with torch.no_grad():
        untrained = residual(black)
        torch.nn.init.normal_(net.controlnet.controlnet_cond_embedding.weight)
        torch.testing.assert_close(residual(black), untrained, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(residual(drawn), untrained, atol=1e-2)
    assert "empty_drawing" not in net.state_dict()


def test_a_negative_gate_is_refused(tiny_backbone) -> None:
    with pytest.raises(ValueError, match=r"net\.noise_gate=-1\.0: a number from 0 is needed"):
        HiFiNet(tiny_backbone(), True, True, noise_gate=-1.0)


@pytest.mark.parametrize("reads_noise", [True, False])
def test_nothing_is_injected_before_the_first_step(tiny_backbone, reads_noise) -> None:
    backbone = tiny_backbone()
    net = HiFiNet(backbone, True, True, reads_noise, noise_gate=1.0)
    noisy, _, control, tokens = inputs(backbone)
    injection = net(
        noisy, torch.tensor([500, 900]), Condition(backbone.encode_text(["", ""]), tokens, control)
    )
    assert not any(residual.any() for residual in [*injection.down, injection.mid])
    # ... while all that starts at zero has a gradient, so that the first step moves it.
    sum(residual.sum() for residual in [*injection.down, injection.mid]).backward()
    outward = net.controlnet.controlnet_down_blocks
    assert all(block.weight.grad.abs().max() > 0 for block in outward)


def residuals(net: HiFiNet, backbone, noisy, control, tokens) -> list[torch.Tensor]:
    """All residuals at one noise level, the zero convolutions opened the same way each time."""
    torch.manual_seed(0)
    for parameter in net.starting_at_zero():
        torch.nn.init.normal_(parameter, std=0.1)
    condition = Condition(backbone.encode_text(["", ""]), tokens, control)
    with torch.no_grad():
        injection = net(noisy, torch.tensor([500, 900]), condition)
    assert injection.down is not None
    return [*injection.down, injection.mid]


def inputs(backbone) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, IdentityTokens]:
    generator = torch.Generator().manual_seed(1)
    edge = backbone.latent_size
    shape = (2, backbone.latent_channels, edge, edge)
    noisy, other, control = (torch.randn(shape, generator=generator) for _ in range(3))
    tokens = torch.randn(2, 3, backbone.text_dim, generator=generator)
    return noisy, other, control, IdentityTokens(tokens, torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("reads_noise", [True, False])
def test_the_noise_reaches_hifi_net_only_where_it_reads_it(tiny_backbone, reads_noise) -> None:
    backbone = tiny_backbone()
    net = HiFiNet(backbone, True, True, reads_noise=reads_noise)
    assert all(not parameter.any() for parameter in net.starting_at_zero())
    noisy, other, control, tokens = inputs(backbone)
    given = residuals(net, backbone, noisy, control, tokens)
    same = residuals(net, backbone, other, control, tokens)
    agree = [torch.equal(one, two) for one, two in zip(given, same, strict=True)]
    assert all(agree) != reads_noise
    drawn = residuals(net, backbone, noisy, other, tokens)
    people = residuals(net, backbone, noisy, control, IdentityTokens(-tokens.tokens, tokens.mask))
    for changed in (drawn, people):
        assert any(not torch.allclose(one, two) for one, two in zip(given, changed, strict=True))


def test_without_a_control_image_the_noise_is_read_all_the_same(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = HiFiNet(backbone, control=False, identity=True, reads_noise=False)
    noisy, other, _, tokens = inputs(backbone)
    given = residuals(net, backbone, noisy, None, tokens)
    assert not torch.allclose(given[0], residuals(net, backbone, other, None, tokens)[0])


@pytest.mark.parametrize("reads_noise", [True, False])
def test_a_net_built_for_drawings_reads_the_noise_where_it_is_given_none(
    tiny_backbone, reads_noise
) -> None:
    backbone = tiny_backbone()
    net = HiFiNet(backbone, True, True, reads_noise)
    noisy, other, _, tokens = inputs(backbone)
    given = residuals(net, backbone, noisy, None, tokens)
    assert not torch.allclose(given[0], residuals(net, backbone, other, None, tokens)[0])
    if reads_noise:
        # ... as if an empty drawing were beside it
        empty = net.empty_drawing.expand_as(noisy)
        for one, two in zip(given, residuals(net, backbone, noisy, empty, tokens), strict=True):
            torch.testing.assert_close(one, two)


def test_the_gate_follows_the_noise_that_is_left(tiny_backbone) -> None:
    backbone = tiny_backbone()
    gated = HiFiNet(backbone, True, True, noise_gate=2.0)
    free = HiFiNet(backbone, True, True)
    free.load_state_dict(gated.state_dict())
    noisy, _, control, tokens = inputs(backbone)
    share = 1 - backbone.scheduler.alphas_cumprod[[500, 900]].view(2, 1, 1, 1)
    for one, two in zip(
        residuals(gated, backbone, noisy, control, tokens),
        residuals(free, backbone, noisy, control, tokens),
        strict=True,
    ):
        torch.testing.assert_close(one, two * share**2)
    assert "noise_share" not in gated.state_dict()
