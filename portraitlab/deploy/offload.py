"""Keep parts of a model on the CPU until they compute, for devices with little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from portraitlab.method.model import PortraitModel

Mode = Literal["model", "sequential"]
"""Unit that is moved to the device: a stage of the drawing, or a single layer."""


def accelerator(
    gpu_id: int | None = None, device: torch.device | str | None = None
) -> torch.device:
    """Choose the device to draw on from the arguments of diffusers' `enable_model_cpu_offload`.

    device: None uses the accelerator that torch finds. gpu_id: its number. Raises ValueError where
    torch finds none, and where both arguments number the device.
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
    """Group the parts of a model by the stage of the drawing in which they compute.

    Net and UNet alternate at each noise level, and the UNet's attentions read layers of the net, so
    they are one stage. The stages contain all weights but those of the cond.
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
    """Let a model on the CPU compute on `device` inside `with`; its inputs must be on `device`.

    "model": a stage is moved to the device when one of its layers is called, and the previous stage
    back to the CPU. "sequential": each layer is on the device only while it computes, by
    accelerate; that is slow. Afterwards the whole model is on the CPU again.
    """
    stages = list(stages_of(model).values())
    # Move what is small and is read outside of its layers' calls.
    model.cond.to(device)
    for name, buffer in model.backbone.named_buffers(recurse=False):
        setattr(model.backbone, name, buffer.to(device))
    keeps_casts = torch.is_autocast_cache_enabled()
    # Autocast would cache a half-precision copy of each trainable weight, which is read only once.
    torch.set_autocast_cache_enabled(False)
    try:
        with (_one_stage if mode == "model" else _layers)(stages, device):
            yield
    finally:
        torch.set_autocast_cache_enabled(keeps_casts)
        model.to("cpu")


@contextmanager
def _one_stage(stages: list[nn.ModuleList], device: torch.device) -> Iterator[None]:
    """Let each layer's call bring its stage to the device, and the previous one back.

    A hook on the part alone, as in accelerate's cpu_offload_with_hook, is not enough: some parts
    are called by other methods than forward, an autoencoder by encode and decode, a net by read.
    """
    there = nn.ModuleList()

    def bring(stage: nn.ModuleList, *call: Any) -> None:
        nonlocal there
        if stage is not there:
            there.to("cpu")
            there = stage.to(device)

    with ExitStack() as hooks:
        for stage in stages:
            for layer in stage.modules():
                hooks.enter_context(layer.register_forward_pre_hook(partial(bring, stage)))
        yield


@contextmanager
def _layers(stages: list[nn.ModuleList], device: torch.device) -> Iterator[None]:
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_module

    parts = [part for stage in stages for part in stage]
    # Modules that share a parameter get one each back from accelerate.
    modules = [module for part in parts for module in part.modules()]
    own = [dict(module._parameters) for module in modules]
    try:
        for part in parts:
            # torch's attention reads the weights of a layer in it without calling that layer.
            cpu_offload(part, device, preload_module_classes=["MultiheadAttention"])
        yield
    finally:
        for part in parts:
            remove_hook_from_module(part, recurse=True)
        for module, parameters in zip(modules, own, strict=True):
            module._parameters.update(parameters)
