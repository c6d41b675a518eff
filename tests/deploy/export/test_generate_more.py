"""`portraitlab generate` with another base, a further ControlNet, and LoRAs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import ControlNetModel
from PIL import Image
from publishing import tiny_unet, write_sd15, write_student
from safetensors.torch import save_file
from torch import nn

Command = Callable[..., tuple[int, str, str]]
Export = Callable[..., Path]


def test_another_base_and_a_further_controlnet_are_taken(
    portraitlab: Command, exported: Path, sd15: Path, files: list[Path], tmp_path: Path
) -> None:
    torch.manual_seed(4)
    model = ControlNetModel.from_unet(tiny_unet(8), conditioning_embedding_out_channels=(4, 8))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "controlnet")
    other = write_sd15(tmp_path / "other", variant=None)
    torch.manual_seed(5)
    tiny_unet(8).save_pretrained(other / "unet")

    def drawn(folder: Path, *given: object) -> bytes:
        out = tmp_path / "drawn"
        refs = ("--refs", files[0], "--device", "cpu", "--out", out)
        code, output, problem = portraitlab("generate", exported, "--base", folder, *refs, *given)
        assert code == 0, problem
        return Image.open(output.strip()).tobytes()

    own, control = drawn(sd15), f"{tmp_path / 'controlnet'}:{files[2]}"
    assert drawn(other) != own
    assert drawn(sd15, "--controlnet", f"{control}:0") == own
    assert drawn(sd15, "--controlnet", control) != own
    assert drawn(sd15, "--vae-slicing", "--vae-tiling") == own  # one picture of one tile
    code, _, problem = portraitlab("generate", exported, "--refs", files[0])
    assert code == 1
    assert "hf download stable-diffusion-v1-5/stable-diffusion-v1-5" in problem
    code, _, problem = portraitlab(
        *("generate", exported, "--base", sd15, "--refs", files[0], "--out", tmp_path),
        *("--controlnet", f"{tmp_path / 'controlnet'}:{tmp_path / 'none.png'}"),
    )
    assert code == 1
    assert problem.endswith(f"{tmp_path / 'none.png'} is not a file; give a picture.\n")


def test_a_picture_names_its_student_and_no_place(
    portraitlab: Command, export: Export, sd15: Path, files: list[Path], tmp_path: Path
) -> None:
    write_student(tmp_path / "student", tiny_unet(8))
    settings = ("backbone=sd15", f"backbone.folder={sd15}", "backbone.precision=float32")
    exported = export(*settings, "net.start=null", "sampler=sdxl_lightning")
    given = ("--base", sd15, "--refs", files[0], "--out", tmp_path / "drawn")
    folder = f"sampler.folder={tmp_path / 'student'}"
    code, output, problem = portraitlab("generate", exported, *given, "--set", folder)
    assert code == 0, problem
    about = json.loads(Image.open(output.strip()).text["portraitlab"])
    assert about["student"] == ["sdxl_lightning_8step_lora.safetensors"]
    assert (about["steps"], about["guidance"]) == (8, 1.0)
    file = tmp_path / "student" / about["student"][0]
    code, _, problem = portraitlab("generate", exported, *given, "--set", folder, "--lora", file)
    assert (code, problem.endswith("draws with it already; leave it out\n")) == (1, True)
    assert str(tmp_path) not in json.dumps(about)


def test_loras_are_weighted_and_invalid_files_are_named(
    portraitlab: Command, exported: Path, sd15: Path, files: list[Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    weights = {}
    for name, module in tiny_unet(8).named_modules():
        if name.endswith("to_q"):
            weights[f"unet.{name}.lora_A.weight"] = torch.randn(2, module.in_features)
            weights[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 2)
    count = len(weights) // 2
    names = ("lora", "two", "wrong", "nowhere", "part", "encoder", "wide", "cut", "none")
    files_of = {name: tmp_path / f"{name}.safetensors" for name in names}
    lora, another = files_of["lora"], files_of["two"]
    save_file(weights, lora)
    save_file({name: -value for name, value in weights.items()}, another)
    save_file({"something": torch.zeros(2)}, files_of["wrong"])
    elsewhere = {name.replace("unet.", "transformer."): each for name, each in weights.items()}
    save_file(elsewhere, files_of["nowhere"])
    unknown = {name.replace("attn1", "attn9"): each.clone() for name, each in weights.items()}
    save_file({**unknown, **weights}, files_of["part"])
    second = "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj"
    encoder = {f"{second}.lora_{side}.weight": torch.zeros(8, 8) for side in "AB"}
    save_file({**weights, **encoder}, files_of["encoder"])
    wider = {
        name: each.repeat(1, 2) if "lora_A" in name else each for name, each in weights.items()
    }
    save_file(wider, files_of["wide"])
    files_of["cut"].write_bytes(lora.read_bytes()[:-9])

    def drawn(*loras: str) -> tuple[int, bytes, str]:
        options = [part for text in loras for part in ("--lora", text)]
        given = ("--refs", files[0], "--seed", 3, "--out", tmp_path / "drawn", *options)
        code, output, problem = portraitlab("generate", exported, "--base", sd15, *given)
        return code, Image.open(output.strip()).tobytes() if code == 0 else b"", problem

    (_, own, _), (_, one, _) = drawn(), drawn(f"{lora}")
    assert own != one
    assert drawn(f"{lora}:1.0")[1] == one
    assert drawn(f"{lora}:0.0")[1] == own
    assert drawn(f"{lora}:0.5")[1] not in (own, one)
    assert drawn(f"{lora}:1.0", f"{another}:0")[1] == one
    for name, message in (
        (
            "wrong",
            "is not a LoRA of this base (0 of its 1 layers fit; is it a LoRA of another base?).",
        ),
        ("nowhere", f"is not a LoRA of this base (0 of its {count} layers fit; is it"),
        (
            "part",
            f"is not a LoRA of this base ({count} of its {count + count // 2} layers fit; is it",
        ),
        ("encoder", f"is not a LoRA of this base ({count} of its {count + 1} layers fit; is it"),
        ("wide", "is not a LoRA of this base (Error(s) in loading"),
        ("cut", "is not a LoRA of this base ("),
        ("none", "is no .safetensors file; give a LoRA of the base."),
    ):
        code, _, problem = drawn(f"{files_of[name]}:0.5")
        assert (code, problem.startswith(f"{files_of[name]} {message}")) == (1, True), problem
        assert problem.count("\n") == 1, problem
