"""Check that damaged, incomplete and hostile exports are refused, by name and with the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
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
    folder = later = damaged("later")
    about = json.loads((folder / "portraitlab.json").read_text())
    (folder / "portraitlab.json").write_text(json.dumps({**about, "format": 2}))
    refused(folder, "was exported in format 2, and this version reads 1")
    for place, value in (
        *(("settings.seed", [1]), ("settings", []), ("unet", 3), ("unet", {"in_channels": "4"})),
        *(("parts", None), ("needed", "all"), ("format", "1"), ("base_model", {})),
    ):
        *above, name = place.split(".")
        content = json.loads((whole / "portraitlab.json").read_text())
        (content[above[0]] if above else content)[name] = value
        (later / "portraitlab.json").write_text(json.dumps(content))
        refused(later, rf"portraitlab\.json is damaged \({place}.*fetch the folder again")
    folder = damaged("cut")
    file = folder / "net" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    refused(folder, r"net/model\.safetensors is damaged .*fetch the file again")
    folder = damaged("without")
    (folder / "fusion" / "model.safetensors").unlink()
    refused(folder, r"is not whole: .* missing.*export the run again")
    folder = damaged("config")
    (folder / "net" / "config.json").unlink()
    refused(folder, r"is not whole: net/config\.json is missing")
    folder = damaged("hostile")
    (folder / "net" / "config.json").write_text('{"_target_": "os.system", "command": "true"}')
    refused(folder, r"net\._target_ is 'os\.system', which no file of conf/ builds")


def test_a_cut_controlnet_is_refused(export: Export, tmp_path: Path) -> None:
    shutil.copytree(export(), tmp_path / "out")
    file = tmp_path / "out" / "controlnet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights.pop("conv_in.weight")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"first conv_in\.weight\. Fetch them again"):
        PortraitPipeline.from_pretrained(tmp_path / "out")
