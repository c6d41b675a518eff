"""A distilled student's weights: the same as added to the UNet's, while it draws and no longer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft.tuners.tuners_utils import BaseTunerLayer
from publishing import write_student
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from portraitlab.diffusion.architectures import SDXL_UNET
from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.loras import lora_of
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.method.sampler.sdxl_lightning import SDXLLightning
from portraitlab.support.hub import MissingPublished, Repository
from portraitlab.types import Batch

FILE = "sdxl_lightning_8step_lora.safetensors"
WEIGHTS = Repository("somebody/fast", "0" * 40, (FILE,), 0.4, "a licence", "sampler.folder")
SEEDS = [1, 2, 3]

MakeBackbone = Callable[..., Backbone]


def model_of(backbone: Backbone) -> PortraitModel:
    """Build a model with a net in the UNet's attentions that changes the prediction."""
    torch.manual_seed(0)
    net = Adapter(backbone, control=False, identity=True)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return PortraitModel(backbone, GlobalFusion(10, 12, backbone.text_dim), KeypointCond(), net)


@pytest.fixture
def model(tiny_backbone: MakeBackbone) -> PortraitModel:
    return model_of(tiny_backbone())


@pytest.fixture
def added(model: PortraitModel, tmp_path: Path) -> dict[str, Tensor]:
    """Write a student's file in tmp_path, and return what it adds to the weights."""
    return write_student(tmp_path, model.backbone.unet)


def test_it_draws_as_a_unet_that_it_is_added_to(
    model: PortraitModel,
    added: dict[str, Tensor],
    tiny_batch: Callable[..., Batch],
    tmp_path: Path,
) -> None:
    sampler, batch, unet = SDXLLightning(WEIGHTS, str(tmp_path)), tiny_batch(), model.backbone.unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    trained = [name for name, each in unet.named_parameters() if each.requires_grad]
    own = DDIM(steps=8, guidance=1.0).sample(model, batch, SEEDS)
    drawn = sampler.sample(model, batch, SEEDS)
    with torch.inference_mode(), sampler.ready(model.backbone):  # as scoring draws
        tuned = [each for each in unet.modules() if isinstance(each, BaseTunerLayer)]
        assert torch.equal(sampler.sample(model, batch, SEEDS), drawn)
        assert [each for each in unet.modules() if isinstance(each, BaseTunerLayer)] == tuned
        assert not any(each.requires_grad for each in unet.parameters())
    assert unet.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert [name for name, each in unet.named_parameters() if each.requires_grad] == trained
    assert torch.equal(DDIM(steps=8, guidance=1.0).sample(model, batch, SEEDS), own)
    assert len(tuned) == len(added)
    with torch.no_grad():
        for name, value in added.items():
            unet.get_submodule(name).weight += value
    merged = DDIM(steps=8, guidance=1.0).sample(model, batch, SEEDS)
    torch.testing.assert_close(drawn, merged, atol=1e-4, rtol=1e-3)
    assert (merged - own).abs().max() > 0.1


@pytest.mark.parametrize("disabled", [False, True])
def test_loras_of_the_user_s_own_stay_as_they_are(
    model: PortraitModel,
    added: dict[str, Tensor],
    tiny_batch: Callable[..., Batch],
    tmp_path: Path,
    disabled: bool,
) -> None:
    unet, batch = model.backbone.unet, tiny_batch()
    layers = [name for name in added if name.endswith("to_q")]
    one, two = {}, {}
    for weights in (one, two):
        for name in layers:
            query = unet.get_submodule(name)
            weights[f"{name}.lora_A.weight"] = torch.randn(2, query.in_features)
            weights[f"{name}.lora_B.weight"] = torch.randn(query.out_features, 2)
    unet.load_lora_adapter(one, prefix=None, adapter_name="one")
    unet.load_lora_adapter(two, prefix=None, adapter_name="two")
    unet.set_adapters(["one", "two"], [0.5, 2.0])
    if disabled:
        unet.disable_lora()
    own = DDIM(steps=8, guidance=1.0).sample(model, batch, SEEDS)
    drawn = SDXLLightning(WEIGHTS, str(tmp_path)).sample(model, batch, SEEDS)
    assert unet.active_adapters() == ["one", "two"]
    assert torch.equal(DDIM(steps=8, guidance=1.0).sample(model, batch, SEEDS), own)
    # The same by hand, all weights added.
    unet.unload_lora()
    with torch.no_grad():
        for name, value in added.items():
            unet.get_submodule(name).weight += value
        for weights, scale in ((one, 0.5), (two, 2.0)) if not disabled else ():
            for name in layers:
                up, down = (weights[f"{name}.lora_{side}.weight"] for side in "BA")
                unet.get_submodule(name).weight += scale * up @ down
    merged = DDIM(steps=8, guidance=1.0).sample(model, batch, SEEDS)
    torch.testing.assert_close(drawn, merged, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_all_of_the_published_student_has_its_place_in_sdxl(tmp_path: Path) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL_UNET)
    assert len(write_student(tmp_path, unet)) == 788
    with lora_of(unet, tmp_path / FILE):
        tuned = [each for each in unet.modules() if isinstance(each, BaseTunerLayer)]
        assert len(tuned) == 788


def test_a_student_of_another_base_or_of_other_steps_is_refused(
    model: PortraitModel,
    added: dict[str, Tensor],
    tiny_batch: Callable[..., Batch],
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"sampler\.steps is 4, but sdxl_lightning_8step_lora"):
        SDXLLightning(WEIGHTS, str(tmp_path), steps=4)
    with pytest.raises(ValueError, match=r"sampler\.steps=0: a whole number from 1"):
        SDXLLightning(WEIGHTS, str(tmp_path), steps=0)
    with pytest.raises(ValueError, match=r"steps is 3; SDXL-Lightning has LoRAs .* 8, 4, 2 s"):
        SDXLLightning(WEIGHTS, str(tmp_path), steps=3)
    nowhere = SDXLLightning(WEIGHTS, str(tmp_path / "none"))
    with pytest.raises(MissingPublished, match=r"missing in sampler\.folder=.*none: all of it"):
        nowhere.sample(model, tiny_batch(), SEEDS)
    keys = model.backbone.unet.state_dict().keys()
    file = tmp_path / FILE
    weights = load_file(file)
    wrong = {name.replace("down_blocks_1", "down_blocks_7"): v for name, v in weights.items()}
    wide = {
        name: v.repeat(1, 2, *(1,) * (v.ndim - 2)) if "lora_down" in name else v
        for name, v in weights.items()
    }
    for content, reason in (
        (wrong, rf"\d+ of its {len(added)} layers fit; is it a LoRA of another base"),
        (wide, "."),
        (None, "."),
    ):
        if content is None:
            file.write_bytes(file.read_bytes()[:-9])
        else:
            save_file(content, file)
        with pytest.raises(ValueError, match=rf"{FILE} is not a LoRA of this base \({reason}"):
            SDXLLightning(WEIGHTS, str(tmp_path)).sample(model, tiny_batch(), SEEDS)
        assert model.backbone.unet.state_dict().keys() == keys
