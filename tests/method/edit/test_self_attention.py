"""Features of self-attentions are cached and fused, and the UNet is left as it was."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from portraitlab.method.edit.self_attention import SelfAttentionCache
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.types import Condition, IdentityTokens, Injection


@pytest.fixture
def predict(tiny_backbone):
    backbone = tiny_backbone()
    draw = torch.Generator().manual_seed(0)
    noisy, other = torch.randn(2, 2, 4, 16, 16, generator=draw)
    timesteps, text = torch.tensor([7, 7]), backbone.encode_text(["a", "b"])

    def predict(which: str = "noisy") -> torch.Tensor:
        given = noisy if which == "noisy" else other
        with torch.no_grad():
            return backbone.predict(given, timesteps, text, Injection())

    predict.backbone = backbone
    return predict


@pytest.mark.parametrize("features", ["output", "map"])
def test_a_pass_that_is_cached_is_unchanged_and_the_processors_return(predict, features) -> None:
    unet = predict.backbone.unet
    before, processors = predict(), unet.attn_processors
    attention = SelfAttentionCache(unet, ["up"], features)
    with attention.watching(), attention.caching(7):
        torch.testing.assert_close(predict(), before, atol=1e-6, rtol=1e-5)
    assert unet.attn_processors == processors
    assert torch.equal(predict(), before)
    assert attention._cached
    assert all(each.dtype == torch.float16 for each in attention._cached.values())
    assert all(name.startswith("up_blocks") for name, _ in attention._cached)


def test_the_processors_return_after_an_error(predict) -> None:
    unet = predict.backbone.unet
    processors = unet.attn_processors
    attention = SelfAttentionCache(unet, ["down", "mid", "up"], "output")
    with suppress(RuntimeError), attention.watching():
        assert unet.attn_processors != processors
        raise RuntimeError
    assert unet.attn_processors == processors


@pytest.mark.parametrize("features", ["output", "map"])
def test_another_pass_with_the_cached_features_alone_differs_from_both(predict, features) -> None:
    attention = SelfAttentionCache(predict.backbone.unet, ["up"], features)
    with attention.watching():
        with attention.caching(7):
            first = predict()
        plain = predict("other")
        with attention.fusing(7, lambda own, cached: own):
            torch.testing.assert_close(predict("other"), plain, atol=1e-6, rtol=1e-5)
        with attention.fusing(7, lambda own, cached: cached):
            replaced = predict("other")
            torch.testing.assert_close(predict(), first, atol=1e-3, rtol=1e-2)  # half precision
    assert not torch.allclose(replaced, plain, atol=1e-4)
    assert not torch.allclose(replaced, first, atol=1e-4)


def test_attentions_that_a_net_has_adapted_are_watched_from_outside(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = PhotoMaker(backbone, control=False, identity=True, rank=2)
    names = [type(each).__name__ for each in backbone.unet.attn_processors.values()]
    assert "AttnProcessor2_0" not in names
    draw = torch.Generator().manual_seed(0)
    noisy, tokens = torch.randn(1, 4, 16, 16, generator=draw), torch.randn(1, 2, 16, generator=draw)
    known = IdentityTokens(tokens, torch.ones(1, 2, dtype=torch.bool))
    condition = Condition(backbone.encode_text(["a"]), known, None)
    timesteps = torch.tensor([500])

    def predict() -> torch.Tensor:
        with torch.no_grad():
            injection = net(noisy, timesteps, condition)
            return backbone.predict(noisy, timesteps, condition.text, injection)

    before = predict()
    attention = SelfAttentionCache(backbone.unet, ["up"], "output")
    with attention.watching(), attention.caching(500):
        assert torch.equal(predict(), before)
    mapped = SelfAttentionCache(backbone.unet, ["up"], "map")
    with pytest.raises(ValueError, match=r"edit\.features=map needs the UNet's own"):
        mapped.watching().__enter__()
