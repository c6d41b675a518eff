"""Check that damaged, incomplete and hostile exports are refused, by name and with the remedy."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from exporting import model_of, settings_of
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from portraitlab.deploy.pipeline import PortraitPipeline

Export = Callable[..., Path]


def test_a_damaged_export_is_refused(export: Export, tmp_path: Path) -> None:
    whole = export("net=adapter", "cond=none")

    def damaged(name: str) -> Path:
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(whole, copy)
        return copy

    def refused(folder: Path, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            PortraitPipeline.from_pretrained(folder)

    refused(tmp_path / "none", r"has no portraitlab\.json, so it is not an exported run; make one")
    folder = damaged("half.json")
    (folder / "portraitlab.json").write_text('{"format": ')
    refused(folder, r"portraitlab\.json is damaged")
    folder = damaged("later")
    about = json.loads((folder / "portraitlab.json").read_text())
    (folder / "portraitlab.json").write_text(json.dumps({**about, "format": 9}))
    refused(folder, "was exported in format 9, and this version reads 2")
    folder = damaged("cut")
    file = folder / "net" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    refused(folder, r"net/model\.safetensors is damaged .*fetch the file again")
    for part in ("net", "fusion"):
        folder = damaged(f"flipped-{part}")
        file = folder / part / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-100] ^= 1
        file.write_bytes(content)
        refused(
            folder, rf"{part}/model\.safetensors is damaged \(it is not as it was exported\); exp"
        )
    folder = damaged("without")
    (folder / "fusion" / "model.safetensors").unlink()
    refused(folder, r"is not whole: .* missing.*export the run again")
    folder = damaged("config")
    (folder / "net" / "config.json").unlink()
    refused(folder, r"is not whole: net/config\.json is missing")
    folder = damaged("hostile")
    (folder / "net" / "config.json").write_text('{"_target_": "os.system", "command": "true"}')
    refused(folder, r"net\._target_ is 'os\.system', which no file of conf/ names")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings.seed": [1]}, r"settings\.seed: Input should be a valid integer"),
        ({"unet": 3}, r"unet: Input should be a valid dictionary, not '3'"),
        ({"parts": None}, r"parts: Input should be a valid list"),
        ({"settings.backbone": "x"}, r"settings\.backbone: Input should be a valid dictionary"),
        (
            {"settings.sampler._target_": 1},
            r"settings\.sampler\._target_: Input should be a valid s",
        ),
        ({"needed": {}}, r"needed: Input should be a valid list"),
        ({"sums": []}, r"sums: Input should be a valid dictionary"),
    ],
)
def test_values_of_another_type_are_refused_by_name(
    export: Export, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    shutil.copytree(export("net=adapter", "cond=none"), tmp_path / "out")
    file = tmp_path / "out" / "portraitlab.json"
    about = OmegaConf.create(json.loads(file.read_text()))
    for name, value in changes.items():
        OmegaConf.update(about, name, value, merge=False)
    file.write_text(json.dumps(OmegaConf.to_container(about)))
    with pytest.raises(
        ValueError, match=rf"portraitlab\.json is damaged \({message}.*; export the"
    ):
        PortraitPipeline.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize("part", ["net", "fusion"])
def test_weights_that_are_not_finite_are_neither_exported_nor_loaded(
    tmp_path: Path, part: str
) -> None:
    model = model_of(settings_of("net=adapter", "cond=none"))
    state = model.trained_state_dict()
    name = next(each for each in state if each.startswith(f"{part}."))
    state[name] = state[name] * math.nan
    with pytest.raises(ValueError, match=rf"{re.escape(name)} of these weights is not finite"):
        model.load_trained_state_dict(state)


def test_a_cut_controlnet_is_refused(export: Export, tmp_path: Path) -> None:
    shutil.copytree(export(), tmp_path / "out")
    file = tmp_path / "out" / "controlnet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights.pop("conv_in.weight")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"first conv_in\.weight\. Fetch them again"):
        PortraitPipeline.from_pretrained(tmp_path / "out")
