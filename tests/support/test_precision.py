import pytest
import torch
from omegaconf import OmegaConf
from torch.nn.functional import scaled_dot_product_attention

from portraitlab.diffusion.precisions import cast_once
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.support.precision import (
    computing_in,
    frozen_precision,
    precision_of,
    quick_attention,
)
from portraitlab.types import FaceCoefficients, Injection, TextFeatures


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


def test_half_weights_are_multiplied_in_half_on_every_processor(processor) -> None:
    processor(avx2=True)
    trainer = OmegaConf.create({"accelerator": "cpu", "precision": "quickest"})
    assert precision_of(trainer, half_weights=True) == "bf16-mixed"
    # A named precision is the user's choice.
    trainer.precision = "32-true"
    assert precision_of(trainer, half_weights=True) == "32-true"


def test_frozen_models_are_in_half_only_where_a_cpu_computes_it(processor) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    processor(avx512_bf16=True)
    assert frozen_precision("quickest", cpu) == "bf16-mixed"
    assert frozen_precision("quickest", gpu) == "32-true"
    processor(avx2=True)
    assert frozen_precision("quickest", cpu) == "32-true"
    assert frozen_precision("bf16-mixed", gpu) == "bf16-mixed"
    with pytest.raises(ValueError, match=r"^precision=16-mixed: choose one of quickest, bf16"):
        frozen_precision("16-mixed", gpu)


def test_drawing_in_half_is_nearly_drawing_in_single_precision(tiny_backbone, tiny_batch) -> None:
    backbone, cpu = tiny_backbone(), torch.device("cpu")
    model = PortraitModel(
        backbone,
        GlobalFusion(10, 12, backbone.text_dim),
        KeypointCond(),
        HiFiNet(backbone, control=True, identity=True),
    )
    batch, seeds = tiny_batch(), [1, 2, 3]
    drawn = {}
    for name in ("32-true", "bf16-mixed"):
        with computing_in(name, cpu):
            drawn[name] = DDIM(steps=3, guidance=2.0).sample(model, batch, seeds)
        assert drawn[name].dtype == torch.float32
    difference = (drawn["bf16-mixed"] - drawn["32-true"]).abs()
    other = DDIM(steps=3, guidance=2.0).sample(model, batch, [4, 5, 6])
    assert 0 < difference.mean() < 0.02
    assert difference.mean() < 0.1 * (other - drawn["32-true"]).abs().mean()


def test_places_stay_where_they_are_under_autocast(tiny_regressor) -> None:
    face_model = tiny_regressor().face_model
    generator = torch.Generator().manual_seed(0)
    sizes = (face_model.shape_size, face_model.expression_size, 6)
    coefficients = FaceCoefficients(*(torch.randn(4, n, generator=generator) for n in sizes))
    single = face_model.points(coefficients)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(face_model.points(coefficients), single)


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
