"""Low-rank weights of a base (Hu et al., 2022), which others trained and a pipeline draws with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.utils import (
    USE_PEFT_BACKEND,
    convert_unet_state_dict_to_peft,
)
from diffusers.utils import (
    convert_state_dict_to_diffusers as to_diffusers,
)
from torch import Tensor


class LoraLoader(StableDiffusionXLLoraLoaderMixin):
    """diffusers' loader, which also says what does not fit the base."""

    def use_loras(self, loras: Sequence[tuple[str | Path, float]]) -> None:
        """Draw with these LoRAs of the base and no others, each a safetensors file and its weight.

        By diffusers' loader, which leaves out what fits nowhere. Raises ValueError where a file is
        none, where not all of it fits the base, and where peft is not installed; then with none.
        """
        if not USE_PEFT_BACKEND:
            raise ValueError("diffusers loads LoRAs by peft; install it with `pip install peft`")
        self.unload_lora_weights()
        for file in (Path(given) for given, _ in loras):
            if not file.is_file() or file.suffix != ".safetensors":
                raise ValueError(f"{file} is no .safetensors file; give a LoRA of the base.")
        scales = {}
        for number, (given, scale) in enumerate(loras):
            file, name = Path(given), f"lora_{number}"
            try:
                self._load(file, name)
            except Exception as error:  # diffusers and peft raise all kinds for another's weights
                self.unload_lora_weights()
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise ValueError(f"{file} is no LoRA of this base ({reason}).") from error
            scales[name] = scale
        if scales:
            self.set_adapters(list(scales), list(scales.values()))

    def _load(self, file: Path, name: str) -> None:
        """Load all of a file. Raises ValueError where not all fits, and what the libraries do."""
        place = {"weight_name": file.name, "local_files_only": True}
        folder, loaders = str(file.parent), "diffusers.loaders"
        with _quiet(f"{loaders}.lora_pipeline"):  # which warns again when it loads
            weights = self.lora_state_dict(folder, unet_config=self.unet.config, **place)[0]
        fitting, count = self._layers_of(weights)
        if fitting < count:
            raise ValueError(f"{fitting} of its {count} layers fit; is it one of another base?")
        with _quiet(f"{loaders}.lora_base", f"{loaders}.peft"):
            self.load_lora_weights(folder, adapter_name=name, **place)

    def _layers_of(self, weights: Mapping[str, Tensor]) -> tuple[int, int]:
        """How many of the layers that have weights are the base's, and how many there are."""
        left, fitting, count = dict(weights), 0, 0
        for part in self._lora_loadable_modules:
            model, prefix = getattr(self, part), f"{part}."
            own = {key: left.pop(key) for key in weights if key.startswith(prefix)}
            if own:
                is_unet = part == self.unet_name  # whose names of old files are others
                own = (convert_unet_state_dict_to_peft if is_unet else to_diffusers)(own)
            layers = {_layer(key.removeprefix(prefix)) for key in own}
            if not hasattr(model, "text_model"):  # a level that published files still have
                layers = {layer.removeprefix("text_model.") for layer in layers}
            there = set() if model is None else {name for name, _ in model.named_modules()}
            fitting, count = fitting + len(layers & there), count + len(layers)
        return fitting, count + len({_layer(key) for key in left})


def _layer(weight: str) -> str:
    return weight.partition(".lora")[0]


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without what these loggers say, where it is checked or raised."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
