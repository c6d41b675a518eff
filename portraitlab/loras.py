"""Low-rank weights of a base (Hu et al., 2022), which others trained and a pipeline draws with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.utils import USE_PEFT_BACKEND
from safetensors import SafetensorError


class LoraLoader(StableDiffusionXLLoraLoaderMixin):
    """diffusers' loader, which also says what does not fit the base."""

    def use_loras(self, loras: Sequence[tuple[str | Path, float]]) -> None:
        """Draw with these LoRAs of the base and no others, each a safetensors file and its weight.

        By diffusers' loader, which skips in silence what fits nowhere. Raises ValueError where a
        file is none, fits the base nowhere or does not fit, and where peft is not installed.
        """
        if not USE_PEFT_BACKEND:
            raise ValueError("diffusers loads LoRAs by peft; install it with `pip install peft`")
        self.unload_lora_weights()
        scales = {}
        for number, (given, scale) in enumerate(loras):
            file, name = Path(given), f"lora_{number}"
            if not file.is_file() or file.suffix != ".safetensors":
                raise ValueError(f"{file} is no .safetensors file; give a LoRA of the base.")
            place = {"weight_name": file.name, "local_files_only": True}
            try:
                with _quiet("diffusers.loaders.lora_base", "diffusers.loaders.peft"):
                    self.load_lora_weights(str(file.parent), adapter_name=name, **place)
                fits = any(name in names for names in self.get_list_adapters().values())
            except (ValueError, KeyError, RuntimeError, OSError, SafetensorError) as error:
                self.unload_lora_weights()
                reason = str(error).splitlines()[0]
                raise ValueError(f"{file} is no LoRA of this base ({reason}).") from error
            if not fits:
                self.unload_lora_weights()
                raise ValueError(f"{file} is no LoRA of this base: none of its weights fits.")
            scales[name] = scale
        if scales:
            self.set_adapters(list(scales), list(scales.values()))


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without the warnings of these loggers, where what they warn of is checked."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
