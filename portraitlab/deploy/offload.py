"""Parts of a model wait on the CPU, for a device whose memory does not hold them all at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from portraitlab.method.model import PortraitModel

Mode = Literal["model", "sequential"]
"""What comes to the device by itself: a stage of the drawing, or each layer."""


def accelerator(
    gpu_id: int | None = None, device: torch.device | str | None = None
) -> torch.device:
    """The device to draw on, as diffusers' `enable_model_cpu_offload` is told it.

    device: None is the accelerator that torch finds. gpu_id: its number. Raises ValueError where
    torch finds none, or for a number that device gives too.
    """
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        raise ValueError(
            "torch sees no GPU on this machine, so there is nothing to keep parts away from; "
            "draw without offload."
        )
    chosen = torch.device(device)
    if gpu_id is None:
        return chosen
    if chosen.index is not None:
        raise ValueError(f"gpu_id={gpu_id} and device={device} both number the GPU.")
    return torch.device(chosen.type, gpu_id)


def stages_of(model: PortraitModel) -> dict[str, nn.ModuleList]:
    """The parts that compute at the same time, under a name for each such time.

    Net and UNet take turns at each noise level, and the UNet's attentions read layers of the net,
    so they are one stage. Together these are all weights but those of the cond.
    """
    backbone = model.backbone
    texts = [
        part for name, part in backbone.named_children() if name not in ("unet", "autoencoder")
    ]
    return {
        "text": nn.ModuleList(texts),
        "autoencoder": nn.ModuleList([backbone.autoencoder]),
        "fusion": nn.ModuleList([model.fusion]),
        "steps": nn.ModuleList([model.net, backbone.unet]),
    }


@contextmanager
def offloaded(model: PortraitModel, device: torch.device, mode: Mode) -> Iterator[None]:
    """In it a model that lies on the CPU computes on a device; what it is given must be there.

    "model": a stage comes as soon as any layer of it is to compute, and the one before goes.
    "sequential": each layer comes for as long as it computes, by accelerate; that is slow.
    Afterwards all is on the CPU again.
    """
    stages = list(stages_of(model).values())
    # What is small, and read where no layer of it computes.
    model.cond.to(device)
    for name, buffer in model.backbone.named_buffers(recurse=False):
        setattr(model.backbone, name, buffer.to(device))
    keeps_casts = torch.is_autocast_cache_enabled()
    # Autocast would keep a half of whatever could be trained beside the whole, which is read once.
    torch.set_autocast_cache_enabled(False)
    try:
        with _OneStage(device).hooks(stages) if mode == "model" else _layers(stages, device):
            yield
    finally:
        torch.set_autocast_cache_enabled(keeps_casts)
        model.to("cpu")


class _OneStage:
    """Has one stage on the device, the one that computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.there = nn.ModuleList()

    def bring(self, stage: nn.ModuleList) -> None:
        """Have this stage on the device and no other."""
        if stage is not self.there:
            self.there.to("cpu")
            self.there = stage.to(self.device)

    @contextmanager
    def hooks(self, stages: list[nn.ModuleList]) -> Iterator[None]:
        """In it each layer brings its stage.

        Each, and not only the part itself: much is entered otherwise than by its forward, as an
        autoencoder by encode and decode and a net by read.
        """

        def hook(stage: nn.ModuleList) -> Any:
            return lambda *call: self.bring(stage)

        handles = [
            layer.register_forward_pre_hook(hook(stage))
            for stage in stages
            for layer in stage.modules()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _layers(stages: list[nn.ModuleList], device: torch.device) -> Iterator[None]:
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_module

    parts = [part for stage in stages for part in stage]
    try:
        for part in parts:
            # torch's attention reads the weights of a layer in it without calling that layer.
            cpu_offload(part, device, preload_module_classes=["MultiheadAttention"])
        yield
    finally:
        for part in parts:
            remove_hook_from_module(part, recurse=True)
