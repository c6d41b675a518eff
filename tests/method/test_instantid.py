"""InstantID is HiFi-Net on other tokens and the adapter beside it."""

from __future__ import annotations

from dataclasses import replace

import torch
from steering import TIMESTEPS, condition, noisy_latents, published

from portraitlab.method.net.instantid import InstantID


def test_instantid_is_identity_net_and_adapter_on_the_same_tokens(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = InstantID(backbone, True, True, start=published(backbone), reads_noise=False)
    given, noisy = condition(backbone), noisy_latents(backbone)
    injection = net(noisy, TIMESTEPS, given)
    alone = net.identity_net(noisy, TIMESTEPS, given)
    assert all(torch.equal(one, two) for one, two in zip(injection.down, alone.down, strict=True))
    assert injection.attention is given.tokens
    other = replace(given, text=given.text[[1, 0]])
    same = net(noisy, TIMESTEPS, other)
    assert torch.equal(same.mid, injection.mid), "IdentityNet does not read the prompt"
    assert {id(p) for p in net.starting_at_zero()} <= {id(p) for p in net.identity_net.parameters()}
    assert sorted({name.split(".")[0] for name, _ in net.named_parameters()}) == [
        "adapter",
        "identity_net",
    ]
