import torch
from torch.nn.functional import scaled_dot_product_attention

from portraitlab.precision import quick_attention, quickest


def test_the_quickest_precision_follows_the_processor(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert quickest("cpu") == "bf16-mixed"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert quickest("cpu") == "32-true"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert quickest("cpu") == "32-true"


def test_quick_attention_is_the_same_attention_without_fusion() -> None:
    query, key, value = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    query.requires_grad_()
    fused = scaled_dot_product_attention(query, key, value)
    (fused_gradient,) = torch.autograd.grad(fused.square().sum(), query)
    with quick_attention(torch.device("cpu")):
        assert not torch.backends.cuda.flash_sdp_enabled()
        plain = scaled_dot_product_attention(query, key, value)
    assert torch.backends.cuda.flash_sdp_enabled()
    (plain_gradient,) = torch.autograd.grad(plain.square().sum(), query)
    torch.testing.assert_close(plain, fused)
    torch.testing.assert_close(plain_gradient, fused_gradient)


def test_a_gpu_keeps_its_fused_attention() -> None:
    with quick_attention(torch.device("cuda")):
        assert torch.backends.cuda.flash_sdp_enabled()
