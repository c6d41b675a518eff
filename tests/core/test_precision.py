import pytest
import torch
from omegaconf import OmegaConf
from torch.nn.functional import scaled_dot_product_attention

from portraitlab.precision import precision_of, quick_attention


@pytest.fixture
def processor(monkeypatch):
    def processor(**capabilities: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    return processor


def precision(name: str) -> str:
    return precision_of(OmegaConf.create({"accelerator": "cpu", "precision": name}))


def test_the_quickest_precision_follows_the_processor(processor, monkeypatch) -> None:
    processor(avx512_bf16=True)
    assert precision("quickest") == "bf16-mixed"
    processor(avx2=True)
    assert precision("quickest") == "32-true"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision("quickest") == "32-true"


def test_a_precision_that_is_named_is_taken(processor) -> None:
    processor(avx512_bf16=True)
    assert precision("32-true") == "32-true"


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
