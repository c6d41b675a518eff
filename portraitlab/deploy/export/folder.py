"""The folder of an exported run: written whole or not at all, and read without executing any of it.

model_index.json   the pipeline's class, PortraitLab's own, and its parts, as diffusers lists them
controlnet/        the net, or the part of it that diffusers' ControlNetModel can hold
net/               the net's settings, and the weights that diffusers has no class for
fusion/            the same of the fusion
portraitlab.json   settings of the frozen parts, the run's key and commit, the UNet's form
README.md          the model card
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from portraitlab.deploy.export.settings import drawing_settings, needed_places
from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.precisions import precision_named
from portraitlab.method.model import PortraitModel
from portraitlab.support.files import DamagedFile, read_json, write_json, write_text

FORMAT = 1
_ABOUT, _INDEX, _CONFIG, _WEIGHTS = (
    "portraitlab.json", "model_index.json", "config.json", "model.safetensors",
)  # fmt: skip
_SAYS = ("format", "settings", "needed", "unet", "base_model", "parts")
_TRAINED = ("fusion", "net")
_UNET = ("in_channels", "sample_size", "block_out_channels", "cross_attention_dim")


@dataclass(frozen=True)
class Exported:
    """An exported run as read from its files.

    settings: of all that draws portraits (portraitlab.deploy.export.settings). needed: dotted names
    of the places that the user must give. about: the rest of portraitlab.json.
    """

    folder: Path
    settings: Mapping[str, Any]
    needed: tuple[str, ...]
    about: Mapping[str, Any]

    @property
    def controlnet(self) -> Path | None:
        """The folder of the net's stock part, where there is one."""
        folder = self.folder / "controlnet"
        return folder if "controlnet" in self.about["parts"] else None

    def check_base(self, backbone: Backbone) -> None:
        """ValueError where a backbone's UNet is of another form than the one trained with."""
        for name, needed in self.about["unet"].items():
            given = _plain(backbone.unet.config[name])
            if given != needed:
                raise ValueError(
                    f"The base has a UNet of {name}={given}, and {self.folder} was trained with "
                    f"{needed}; give a checkpoint of the same base, "
                    f"{self.about['base_model'] or 'the miniature world'}."
                )

    def load_into(self, model: PortraitModel) -> None:
        """Load all that was trained. Raises ValueError where a file is damaged or missing."""
        state: dict[str, Tensor] = {}
        for part in _TRAINED:
            path = self.folder / part / _WEIGHTS
            if path.is_file():
                state |= {f"{part}.{name}": value for name, value in _read_weights(path).items()}
        if self.controlnet is not None:
            model.net.load_stock(read_controlnet(str(self.controlnet)))
        own = model.trained_state_dict()
        if model.net.stock_part is not None:
            held = f"net.{model.net.stock_part}."
            state |= {name: value for name, value in own.items() if name.startswith(held)}
        missing = sorted(own.keys() - state.keys())
        if missing:
            raise DamagedFile(
                f"{self.folder} is not whole: {len(missing)} tensors are missing, first "
                f"{missing[0]}; export the run again, or fetch the folder again."
            )
        model.load_trained_state_dict({name: value.float() for name, value in state.items()})


def read_controlnet(folder: str) -> Any:
    """A ControlNetModel in single precision, by diffusers' stock loader; ValueError if damaged."""
    from diffusers import ControlNetModel

    from portraitlab.support.hub import read_model

    return read_model(ControlNetModel, Path(folder), torch_dtype=torch.float32)


def read_export(folder: Path) -> Exported:
    """What an exported folder holds, weights aside. Raises ValueError where it is none."""
    try:
        about = read_json(folder / _ABOUT, _SAYS)
    except NotADirectoryError:
        about = None
    if about is None:
        raise ValueError(
            f"{folder} holds no {_ABOUT}, so it is no exported run; make one with "
            "`portraitlab export RUN OUT`"
        )
    if about["format"] != FORMAT:
        raise ValueError(
            f"{folder} was exported in format {about['format']}, and this version reads {FORMAT}; "
            "export the run again, or install the version that wrote it."
        )
    settings = dict(about["settings"])
    for part in _TRAINED:
        found = read_json(folder / part / _CONFIG)
        if found is None:
            raise DamagedFile(
                f"{folder} is not whole: {part}/{_CONFIG} is missing; export the run again, or "
                "fetch the folder again."
            )
        settings[part] = found
    return Exported(folder, settings, tuple(about["needed"]), about)


def write_export(
    model: PortraitModel,
    config: Mapping[str, Any],
    out: Path,
    card: str,
    dtype: str = "float32",
    **facts: Any,
) -> None:
    """Write a trained model as a folder, whole or not at all.

    config: the run's resolved configuration. card: the text of its README.md. dtype: precision of
    the weights, by name. facts: what else portraitlab.json is to say. Raises ValueError for an
    unknown precision, and where `out` holds something.
    """
    precision = precision_named(dtype, "--dtype")
    check_empty(out)
    net, stock = model.net, None
    if net.stock_part is not None:
        # What the net started from is in its weights, and its form in their config.json.
        config = {**config, "net": {**config["net"], "start": None}}
        stock = net.stock()
    settings = drawing_settings(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    half.mkdir()
    try:
        state = model.trained_state_dict()
        index: dict[str, Any] = {"_class_name": "PortraitPipeline"}
        index["_diffusers_version"] = version("diffusers")
        if stock is not None:
            # A copy, since the model itself is to stay as it is.
            stock = nn.Module.to(deepcopy(stock), precision)
            stock.save_pretrained(half / "controlnet")
            state = {
                name: value
                for name, value in state.items()
                if not name.startswith(f"net.{net.stock_part}.")
            }
            index["controlnet"] = ["diffusers", "ControlNetModel"]
        for part in _TRAINED:
            chosen = settings.pop(part)
            module, _, name = chosen["_target_"].rpartition(".")
            index[part] = [module, name]
            write_json(half / part / _CONFIG, chosen)
            weights = {
                # A copy each: safetensors refuses tensors that share their memory.
                name.removeprefix(f"{part}."): value.to(precision, copy=True).contiguous()
                for name, value in state.items()
                if name.startswith(f"{part}.")
            }
            if weights:
                save_file(weights, half / part / _WEIGHTS, metadata={"format": "pt"})
        write_json(half / _INDEX, index)
        about = {"format": FORMAT, "dtype": dtype, **facts, "base_model": base_model(config)}
        unet = {name: _plain(model.backbone.unet.config[name]) for name in _UNET}
        parts = [name for name in index if name[0] != "_"]
        about |= {"parts": parts, "unet": unet, "needed": needed_places(config)}
        about |= {"settings": settings}
        write_json(half / _ABOUT, about)
        write_text(half / "README.md", card)
        half.replace(out)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def check_empty(out: Path) -> None:
    """ValueError where something is in the way of an export."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise ValueError(f"{out} is there already and not empty; give another folder, or move it.")


def base_model(config: Mapping[str, Any]) -> str | None:
    """The hub's name of what the backbone was published as; None for the miniature's own."""
    published = config["backbone"].get("weights")
    return published["repository"] if isinstance(published, Mapping) else None


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedFile(
            f"{path} is damaged ({error}); export the run again, or fetch the file again."
        ) from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
