"""Write and read the folder of an exported run: written atomically, read without executing code.

model_index.json   the pipeline's class (PortraitLab's own) and its parts, as diffusers lists them
controlnet/        the net, or the part of it that fits diffusers' ControlNetModel
unet/              the UNet of a net that merges its weights into it, for other programs
net/               the net's settings, and the weights for which diffusers has no class
fusion/            the fusion's settings and weights
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
from hydra.utils import get_class
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from typing_extensions import TypedDict

from portraitlab.deploy.export.settings import drawing_settings, needed_places
from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.precisions import precision_named
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.base import Net
from portraitlab.support.files import DamagedFile, damaged, read_json, write_json, write_text
from portraitlab.support.hashes import file_digest
from portraitlab.support.tensor_files import follow_umask, write_tensors

FORMAT = 2
_ABOUT, _INDEX, _CONFIG, _WEIGHTS = (
    "portraitlab.json", "model_index.json", "config.json", "model.safetensors",
)  # fmt: skip
_TRAINED = ("fusion", "net")
_REMEDY = "export the run again, or fetch the file again."
_UNET = ("in_channels", "sample_size", "block_out_channels", "cross_attention_dim")


class _Format(TypedDict):
    format: int


class _Component(TypedDict):
    _target_: str


class _Settings(TypedDict):
    backbone: _Component
    encoder: _Component
    cond: _Component
    select: _Component
    sampler: _Component
    matting: _Component
    minimum_side: int
    seed: int
    refs: int


class _About(_Format):
    settings: _Settings
    needed: list[str]
    unet: dict[str, Any]
    base_model: str | None
    parts: list[str]
    sums: dict[str, str]
    key: str


@dataclass(frozen=True)
class Exported:
    """An exported run as read from its files.

    settings: settings of the components that draw portraits (portraitlab.deploy.export.settings).
    needed: dotted names of the paths that the user must give. about: the contents of
    portraitlab.json.
    """

    folder: Path
    settings: Mapping[str, Any]
    needed: tuple[str, ...]
    about: Mapping[str, Any]

    @property
    def controlnet(self) -> Path | None:
        """The folder of the net's stock part; None where there is none."""
        folder = self.folder / "controlnet"
        return folder if "controlnet" in self.about["parts"] else None

    def check_base(self, backbone: Backbone) -> None:
        """Check that a backbone's UNet has the form of the training's. Raises ValueError if not."""
        for name, needed in self.about["unet"].items():
            given = _plain(backbone.unet.config.get(name))
            if given != needed:
                raise ValueError(
                    f"The base has a UNet of {name}={given}, and {self.folder} was trained with "
                    f"{needed}; give a checkpoint of the same base, "
                    f"{self.about['base_model'] or 'the miniature world'}."
                )

    def check_cond(self, chosen: Mapping[str, Any]) -> None:
        """Check that a net that merges still draws with the control image of its training.

        Raises ValueError if not.
        """
        given, trained = (each["cond"]["_target_"] for each in (chosen, self.settings))
        net: type[Net] = get_class(chosen["net"]["_target_"])
        if net.merges and given != trained:
            raise ValueError(
                f"cond is {given}, and {self.folder} has a UNet into which another control image, "
                f"{trained}, is merged; leave cond as it is, or export a run with the other."
            )

    def load_into(self, model: PortraitModel) -> None:
        """Load the trained weights. Raises ValueError where a file is damaged or missing."""
        # Compare the files with their sums, then read them and the stock part.
        for name, found in _sums(self.folder).items():
            if found != self.about["sums"].get(name):
                raise damaged(self.folder / name, "it is not as it was exported", _REMEDY)
        state: dict[str, Tensor] = {}
        for part in _TRAINED:
            path = self.folder / part / _WEIGHTS
            if path.is_file():
                state |= {f"{part}.{name}": value for name, value in _read_weights(path).items()}
        if self.controlnet is not None:
            model.net.load_stock(read_controlnet(str(self.controlnet)))
        own = model.trained_state_dict()
        if model.net.stock_part is not None:
            stock = f"net.{model.net.stock_part}."
            state |= {name: value for name, value in own.items() if name.startswith(stock)}

        # Check that all are there, and load them.
        missing = sorted(own.keys() - state.keys())
        if missing:
            raise DamagedFile(
                f"{self.folder} is not whole: {len(missing)} tensors are missing, first "
                f"{missing[0]}; export the run again, or fetch the folder again."
            )
        model.load_trained_state_dict({name: value.float() for name, value in state.items()})


def read_controlnet(folder: str) -> Any:
    """Read a ControlNetModel in single precision with diffusers' loader; ValueError if damaged."""
    from diffusers import ControlNetModel

    from portraitlab.support.hub import read_model

    return read_model(ControlNetModel, Path(folder), torch_dtype=torch.float32)


def read_export(folder: Path) -> Exported:
    """Read an exported folder without its weights. Raises ValueError where it is not one."""
    try:
        about = read_json(folder / _ABOUT, _Format, _REMEDY)
    except NotADirectoryError:
        about = None
    if about is None:
        raise ValueError(
            f"{folder} has no {_ABOUT}, so it is not an exported run; make one with "
            "`portraitlab export RUN OUT`"
        )
    if about["format"] != FORMAT:
        raise ValueError(
            f"{folder} was exported in format {about['format']}, and this version reads {FORMAT}; "
            "export the run again, or install the version that wrote it."
        )
    read_json(folder / _ABOUT, _About, _REMEDY)
    settings = dict(about["settings"])
    for part in _TRAINED:
        found = read_json(folder / part / _CONFIG, _Component, _REMEDY)
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
    """Write a trained model as a folder, completely or not at all.

    config: the run's resolved configuration. card: the text of its README.md. dtype: precision of
    the weights, by name. facts: further entries of portraitlab.json. Raises ValueError for an
    unknown precision, and where `out` is not empty.
    """
    # Check the arguments.
    precision = precision_named(dtype, "--dtype")
    check_empty(out)
    net, stock = model.net, None
    if net.stock_part is not None:
        # The net's start is contained in its weights, and its form in their config.json.
        config = {**config, "net": {**config["net"], "start": None}}
        stock = net.stock()

    # Write into a hidden folder, which is renamed at the end.
    settings = drawing_settings(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    half.mkdir()
    try:
        state = model.trained_state_dict()
        index: dict[str, Any] = {"_class_name": "PortraitPipeline"}
        index["_diffusers_version"] = version("diffusers")
        if stock is not None:
            # Write the stock part from a copy, since casting would change the model.
            stock = nn.Module.to(deepcopy(stock), precision)
            stock.save_pretrained(half / "controlnet")
            state = {
                name: value
                for name, value in state.items()
                if not name.startswith(f"net.{net.stock_part}.")
            }
            index["controlnet"] = ["diffusers", "ControlNetModel"]
        if net.merges:
            # PortraitLab's pipeline merges net/ itself, so that settings and LoRAs take effect.
            merged = deepcopy(net.merged_unet(model.backbone))
            nn.Module.to(merged, precision).save_pretrained(half / "unet")
            index["unet"] = ["diffusers", "UNet2DConditionModel"]

        for written in half.rglob("*.safetensors"):
            follow_umask(written)

        # Write settings and weights of the trained parts.
        for part in _TRAINED:
            chosen = settings.pop(part)
            module, _, name = chosen["_target_"].rpartition(".")
            index[part] = [module, name]
            write_json(half / part / _CONFIG, chosen)
            weights = {
                # Copied, since safetensors refuses tensors that share memory.
                name.removeprefix(f"{part}."): value.to(precision, copy=True).contiguous()
                for name, value in state.items()
                if name.startswith(f"{part}.")
            }
            if weights:
                write_tensors(weights, half / part / _WEIGHTS, {"format": "pt"})

        # Write the index, portraitlab.json and the card.
        write_json(half / _INDEX, index)
        about = {"format": FORMAT, "dtype": dtype, **facts, "base_model": base_model(config)}
        unet = {name: _plain(model.backbone.unet.config[name]) for name in _UNET}
        parts = [name for name in index if name[0] != "_"]
        about |= {"parts": parts, "unet": unet, "needed": needed_places(config)}
        about |= {"settings": settings, "sums": _sums(half)}
        write_json(half / _ABOUT, about)
        write_text(half / "README.md", card)
        half.replace(out)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def check_empty(out: Path) -> None:
    """Check that `out` is new or an empty folder. Raises ValueError if not."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise ValueError(f"{out} is there already and not empty; give another folder, or move it.")


def base_model(config: Mapping[str, Any]) -> str | None:
    """Return the backbone's repository on the hub; None for the miniature's own."""
    published = config["backbone"].get("weights")
    return published["repository"] if isinstance(published, Mapping) else None


def _sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of weights that is read, by its place in the folder."""
    files = [
        path for part in ("controlnet", *_TRAINED) for path in folder.glob(f"{part}/*.safetens*")
    ]
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(files)}


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise damaged(path, error, _REMEDY) from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
