"""HiFi-Net reads what is drawn, not the black around it."""

import torch

from portraitlab.net.hifi_net import HiFiNet
from portraitlab.types import Condition


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
