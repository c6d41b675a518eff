"""Load published LoRAs (Hu et al., 2022) into a base model and remove them again."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers, convert_unet_state_dict_to_peft
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from portraitlab.support.checks import check_finite

_OWN = "portraitlab"
"""The name under which `lora_of` adds weights, beside the users' own."""


class LoraLoader(StableDiffusionXLLoraLoaderMixin):
    """diffusers' loader with a check that a LoRA fits the base."""

    def use_loras(self, loras: Sequence[tuple[str | Path, float]]) -> None:
        """Use these LoRAs of the base and no others, each a safetensors file and its weight.

        diffusers' loader silently drops weights that do not fit. This method raises ValueError
        where a file is not a LoRA or does not fit the base completely; then no LoRA is loaded.
        """
        # Check the files.
        self.unload_lora_weights()
        for file in (Path(given) for given, _ in loras):
            if not file.is_file() or file.suffix != ".safetensors":
                raise ValueError(f"{file} is no .safetensors file; give a LoRA of the base.")
        # Load them, and set their weights.
        scales = {}
        for number, (given, scale) in enumerate(loras):
            file, name = Path(given), f"lora_{number}"
            try:
                with _named(file):
                    self._load(file, name)
            except ValueError:
                self.unload_lora_weights()
                raise
            scales[name] = scale
        if scales:
            self.set_adapters(list(scales), list(scales.values()))

    def _load(self, file: Path, name: str) -> None:
        """Load a file. Raises ValueError where not all of it fits, and the libraries' errors."""
        weights, _ = _read(file, self.unet)
        _check_fit(weights, {part: getattr(self, part) for part in self._lora_loadable_modules})
        with _quiet("lora_base", "peft"):
            self.load_lora_weights(str(file.parent), adapter_name=name, **_place(file))


@contextmanager
def lora_of(unet: UNet2DConditionModel, file: Path) -> Iterator[None]:
    """Add a LoRA with weight 1 to a UNet in a context, and restore the UNet afterwards.

    file: safetensors, with weights of the UNet alone. Nested contexts add it only once. Raises
    ValueError where the file is not a LoRA or does not fit completely.
    """
    if _OWN in getattr(unet, "peft_config", {}):
        yield
        return
    # peft freezes the model that it adds to, and activates only the last added LoRA: keep both.
    trained = [each for each in unet.parameters() if each.requires_grad]
    others = {
        layer: (layer.active_adapters, layer.disable_adapters)
        for layer in unet.modules()
        if isinstance(layer, BaseTunerLayer)
    }
    try:
        with _named(file), _quiet("peft"):
            weights, alphas = _read(file, unet)
            _check_fit(weights, {LoraLoader.unet_name: unet})
            LoraLoader.load_lora_into_unet(  # without drawing random weights first
                weights, alphas, unet, adapter_name=_OWN, low_cpu_mem_usage=True
            )
        # Activate it beside those that were active.
        for layer in unet.modules():
            if isinstance(layer, BaseTunerLayer) and _OWN in getattr(layer, "lora_A", ()):
                active, disabled = others.get(layer, ([], False))
                layer.enable_adapters(True)
                layer.set_adapter([*([] if disabled else active), _OWN], inference_mode=True)
        yield
    finally:
        # Restore the active LoRAs, peft's layers and the trained parameters.
        for layer, (active, disabled) in others.items():
            layer.set_adapter(active, inference_mode=True)
            if disabled:
                layer.enable_adapters(False)
        unet.delete_adapters(_OWN)
        for name, layer in list(unet.named_modules()):
            if isinstance(layer, BaseTunerLayer) and layer not in others:
                unet.set_submodule(name, layer.get_base_layer())
        if not others:
            unet.unload_lora()
        for each in trained:
            each.requires_grad_(True)


def _place(file: Path) -> dict[str, Any]:
    """Return the arguments by which diffusers' loaders find a file in its folder."""
    return {"weight_name": file.name, "local_files_only": True}


def _read(file: Path, unet: UNet2DConditionModel) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Read a file's weights by diffusers' names, and their alphas where it has some."""
    with _quiet("lora_pipeline"):  # warns of dropped weights, which _check_fit reports
        weights, alphas = LoraLoader.lora_state_dict(
            str(file.parent), unet_config=unet.config, **_place(file)
        )
    return weights, alphas


def _check_fit(weights: Mapping[str, Tensor], models: Mapping[str, nn.Module | None]) -> None:
    """Check that weights are finite and their layers exist in the models of their prefixes.

    Raises ValueError if not.
    """
    for name, value in weights.items():
        check_finite(name, value)
    left, fitting, count = dict(weights), 0, 0
    for part, model in models.items():
        prefix = f"{part}."
        own = {key: left.pop(key) for key in weights if key.startswith(prefix)}
        if own:
            is_unet = part == LoraLoader.unet_name  # old files have other names for it
            named = convert_unet_state_dict_to_peft if is_unet else convert_state_dict_to_diffusers
            own = named(own)
        layers = {_layer(key.removeprefix(prefix)) for key in own}
        if not hasattr(model, "text_model"):  # a level that published files still have
            layers = {layer.removeprefix("text_model.") for layer in layers}
        there = set() if model is None else {name for name, _ in model.named_modules()}
        fitting, count = fitting + len(layers & there), count + len(layers)
    count += len({_layer(key) for key in left})
    if fitting < count:
        raise ValueError(f"{fitting} of its {count} layers fit; is it a LoRA of another base?")


def _layer(weight: str) -> str:
    return weight.partition(".lora")[0]


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Raise a ValueError that names the file for any error: diffusers and peft raise all kinds."""
    try:
        yield
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:160]
        raise ValueError(f"{file} is not a LoRA of this base ({reason}).") from error


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Silence these loggers of diffusers' loaders, where problems are checked or raised."""
    loggers = [logging.getLogger(f"diffusers.loaders.{name}") for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():  # several LoRAs are intended
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
