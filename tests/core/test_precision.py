import pytest
import torch
from omegaconf import OmegaConf
from torch.nn.functional import scaled_dot_product_attention

from portraitlab.diffusion.precision import cast_once, precision_of, quick_attention
from portraitlab.types import Injection, TextFeatures


@pytest.fixture
def processor(monkeypatch):
    def processor(**capabilities: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    return processor


def precision(name: str | int, accelerator: str = "cpu") -> str:
    return precision_of(OmegaConf.create({"accelerator": accelerator, "precision": name}))


def test_the_quickest_precision_follows_the_processor(processor, monkeypatch) -> None:
    processor(avx512_bf16=True)
    assert precision("quickest") == "bf16-mixed"
    processor(avx2=True)
    assert precision("quickest") == "32-true"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision("quickest") == "32-true"


def test_a_precision_that_is_named_is_taken(processor) -> None:
    processor(avx512_bf16=True)
    for name in ("32-true", "bf16-mixed"):
        assert precision(name) == name
    assert precision("16-mixed", "gpu") == "16-mixed"
    assert precision(32) == "32-true"
    assert precision("bf16") == "bf16-mixed"


@pytest.mark.parametrize("there", [False, True])
def test_what_a_cpu_would_replace_is_refused(monkeypatch, there: bool) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there)
    for accelerator in ("cpu", *(() if there else ("auto",))):
        with pytest.raises(ValueError, match=r"trainer\.precision=16-mixed: on a CPU Lightning"):
            precision("16-mixed", accelerator)
    assert there is False or precision("16-mixed", "auto") == "16-mixed"


@pytest.mark.parametrize("name", ["bf16-true", "16-true", "16", 16, "64-true", "half"])
def test_a_precision_that_no_training_is_done_in_is_refused(name: str | int) -> None:
    with pytest.raises(
        ValueError, match=rf"trainer\.precision={name}: choose one of quickest, bf16-"
    ):
        precision(name)


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


def test_weights_cast_once_give_the_same_to_the_bit_and_come_back(tiny_backbone) -> None:
    backbone = tiny_backbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    noise = torch.randn(2, backbone.latent_channels, 8, 8, generator=torch.manual_seed(0))
    text = TextFeatures(torch.randn(2, 4, backbone.text_dim, generator=torch.manual_seed(1)))

    def predicted() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return backbone.predict(noise, torch.tensor([100, 900]), text, Injection())

    cast_each_time = predicted()
    with cast_once(backbone, "bf16-mixed"):
        assert backbone.unet.conv_in.weight.dtype == torch.bfloat16
        assert torch.equal(predicted(), cast_each_time)
    with pytest.raises(KeyError), cast_once(backbone, "bf16-mixed"):
        raise KeyError
    after = backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(after[name].dtype == value.dtype for name, value in before.items())


def test_only_frozen_weights_are_cast_and_only_where_products_are_in_half() -> None:
    layers = torch.nn.Sequential(
        torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 2)
    )
    layers[:2].requires_grad_(False)
    with cast_once(layers, "bf16-mixed"):
        assert [p.dtype for p in layers.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 4
    with cast_once(layers, "32-true"):
        assert layers[0].weight.dtype == torch.float32
