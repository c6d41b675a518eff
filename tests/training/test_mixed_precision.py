"""bf16-mixed on published backbones: products in half, all that is trained in single precision."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from publishing import published, write_sd15, write_sdxl
from tiny import make_batch
from torch import Tensor, nn
from torch.utils.data import Dataset

from portraitlab.data.loader import PortraitData
from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.sd15 import load_sd15
from portraitlab.diffusion.sdxl import load_sdxl
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.method.net.rep_controlnet import RepControlNet
from portraitlab.method.net.text_concat import TextConcat
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.training.module import PortraitModule
from portraitlab.types import Batch

STEPS = 2
NETS: dict[str, Callable[[Backbone], Net]] = {
    "hifi_net": lambda backbone: HiFiNet(backbone, True, True),
    "instantid": lambda backbone: InstantID(backbone, True, True),
    "ffrnet": lambda backbone: FFRNet(backbone, True, True),
    "mmf": lambda backbone: MultiModeFusion(backbone, True, True),
    "rep_controlnet": lambda backbone: RepControlNet(backbone, True, True),
    "adapter": lambda backbone: Adapter(backbone, False, True),
    "photomaker": lambda backbone: PhotoMaker(backbone, False, True, rank=2),
    "text_concat": lambda backbone: TextConcat(backbone, False, True),
    "flashface": lambda backbone: FlashFace(backbone, False, True),
}


class Batches(Dataset[Batch]):
    batch_size, steps, rank, world_size = 2, STEPS, 0, 1

    def __init__(self, backbone: Backbone) -> None:
        self.text = backbone.encode_text(["a man in a red shirt", ""])

    def __getitem__(self, step: int) -> Batch:
        return replace(make_batch(seed=step, batch=2, latents=True), text=self.text)


class Seen(lightning.Callback):
    """The types of what is multiplied, and which gradients there are before each update."""

    def __init__(self, model: PortraitModel) -> None:
        self.products: dict[str, set[torch.dtype]] = {"unet": set(), "trained": set()}
        self.gradients: list[list[torch.dtype | None]] = []
        # A net's UNet runs in place of the backbone's, with its weights.
        own = getattr(model.net, "unet", model.backbone.unet)
        parts: dict[str, list[nn.Module]] = {
            "unet": [own], "trained": [model.fusion, model.net]
        }  # fmt: skip
        for name, modules in parts.items():
            for layer in (layer for module in modules for layer in module.modules()):
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    layer.register_forward_hook(self.note(name))

    def note(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            self.products[name].add(output.dtype)

        return hook

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        parameters = pl_module.model.trained_parameters()
        self.gradients.append([None if p.grad is None else p.grad.dtype for p in parameters])


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("published")
    return {
        "sdxl": tuple(map(str, write_sdxl(folder / "sdxl" / "model"))),
        "sd15": (str(write_sd15(folder / "sd15")),),
    }


def load(kind: str, places: dict[str, tuple[str, ...]]) -> Backbone:
    words = published("unet/config.json")
    if kind == "sd15":
        return load_sd15(words, *places["sd15"], variant="fp16", precision="bfloat16")
    own = published("config.json")
    return load_sdxl(words, own, *places["sdxl"], variant="fp16", precision="bfloat16")


@pytest.mark.parametrize(
    ("kind", "net"),
    [
        *(("sdxl", name) for name in NETS),
        *(("sd15", name) for name in ("hifi_net", "mmf", "flashface")),
    ],
)
@pytest.mark.parametrize("anew", [False, True], ids=["kept", "computed anew"])
def test_products_are_in_half_and_what_is_trained_in_single(
    places: dict[str, tuple[str, ...]], tmp_path: Path, kind: str, net: str, anew: bool
) -> None:
    backbone = load(kind, places)
    fusion = FaceRefiner(10, 12, backbone.text_dim, learnable_tokens=2, layers=1, heads=2)
    model = PortraitModel(backbone, fusion, KeypointCond(), NETS[net](backbone))
    for parameter in model.net.starting_at_zero():  # behind which nothing would learn at first
        nn.init.normal_(parameter, std=0.1)
    if anew:
        model.enable_gradient_checkpointing()
    seen = Seen(model)
    before = {name: value.clone() for name, value in model.trained_state_dict().items()}
    # So small a step that bfloat16, of three digits, would round it away.
    module = PortraitModule(
        model, Objective({"noise": NoiseLoss()}), learning_rate=1e-5, steps=STEPS
    )
    trainer = lightning.Trainer(
        accelerator="cpu", precision="bf16-mixed", max_steps=STEPS, callbacks=[seen],
        use_distributed_sampler=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, logger=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, PortraitData(Batches(backbone)))
    assert seen.products == {"unet": {torch.bfloat16}, "trained": {torch.bfloat16}}
    trained = model.trained_parameters()
    assert {each.dtype for each in trained} == {torch.float32}
    assert seen.gradients == [[torch.float32] * len(trained)] * STEPS
    states = trainer.optimizers[0].state
    assert len(states) == len(trained)
    assert {states[each][name].dtype for each in trained for name in ("exp_avg", "exp_avg_sq")} == {
        torch.float32
    }
    saved = torch.load(_saved(trainer, tmp_path), weights_only=True)["state_dict"]
    assert {each.dtype for each in saved.values()} == {torch.float32}
    # SDXL's empty prompt is zero, and so is the gradient of what attends to it in a reference net.
    reads = re.compile(r"net\.reference_net\..*(attn2\.|norm2\.)(?!to_out\.0\.bias)")
    moving = [name for name in before if kind != "sdxl" or not reads.search(name)]
    moved = torch.cat([(saved[name] != before[name]).flatten() for name in moving])
    assert moved.float().mean() > 0.9
    frozen = [each for each in backbone.unet.parameters() if each.dim() > 1]
    assert {each.dtype for each in frozen} == {torch.bfloat16}


def _saved(trainer: lightning.Trainer, folder: Path) -> Path:
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"
