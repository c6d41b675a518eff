"""`portraitlab generate`: pictures from photo files, and one clear message for each that is bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from placed import REAL
from publishing import write_clip

from portraitlab.deploy.pipeline import PortraitPipeline

Command = Callable[..., tuple[int, str, str]]
Export = Callable[..., Path]

PACKS = REAL / "weights" / "insightface"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photos and packs at {REAL}")


def test_pictures_are_those_of_the_pipeline_and_say_how_they_were_made(
    portraitlab: Command, export: Export, files: list[Path], tmp_path: Path
) -> None:
    out, prompt = tmp_path / "drawn", "a person in round glasses, größer"
    given = ("--refs", *files[:2], "--target", files[3], "--prompt", prompt, "--seed", 7)
    code, output, _ = portraitlab(
        "generate", export(), *given, "--count", 2, "--steps", 3, "--out", out
    )
    assert code == 0
    assert output.split() == [str(out / "0000.png"), str(out / "0001.png")]
    pipe = PortraitPipeline.from_pretrained(export())
    references = [Image.open(file) for file in files[:2]]
    drawn = pipe(references, Image.open(files[3]), prompt, steps=3, seed=7, num_images=2)
    for number, image in enumerate(drawn):
        with Image.open(out / f"000{number}.png") as written:
            assert np.array_equal(np.asarray(written), np.asarray(image))
            assert written.text["Software"] == "PortraitLab"
            assert written.text["seed"] == str(7 + number)
            about = json.loads(written.text["portraitlab"])
    assert about["prompt"] == prompt
    assert (about["steps"], about["guidance"], about["run"]) == (3, 2.5, "0" * 8)
    assert [text.split()[0] for text in about["references"]] == ["0.png", "1.png"]
    assert str(tmp_path) not in json.dumps(about)


def test_pictures_that_are_there_are_kept(
    portraitlab: Command, export: Export, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "0001.png").write_text("mine")
    given = ("generate", export(), "--refs", files[0], "--count", 2, "--out", tmp_path)
    for expected in (["0000.png", "0002.png"], ["0003.png", "0004.png"]):
        code, output, _ = portraitlab(*given)
        assert (code, [Path(line).name for line in output.split()]) == (0, expected)
    assert (tmp_path / "0001.png").read_text() == "mine"


def test_the_current_folder_is_drawn_with_where_none_is_given(
    portraitlab: Command,
    export: Export,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(export())
    given = ("--refs", *files[:2], "--target", files[3], "--out", tmp_path)
    code, output, problem = portraitlab("generate", *given)
    assert (code, problem, output.split()) == (0, "", [str(tmp_path / "0000.png")])
    monkeypatch.chdir(tmp_path)
    code, _, problem = portraitlab("generate", *given)
    assert code == 1
    assert ". has no portraitlab.json, so it is not an exported run" in problem


def test_the_reference_of_the_shape_can_be_chosen(
    portraitlab: Command, export: Export, files: list[Path], tmp_path: Path
) -> None:
    for choice in ("target", "quality"):
        given = ("--refs", *files[:2], "--target", files[3], "--select", choice)
        code, _, problem = portraitlab("generate", export(), *given, "--out", tmp_path / choice)
        assert (code, problem) == (0, "")
        with Image.open(tmp_path / choice / "0000.png") as written:
            names = {"target": "TargetShape", "quality": "BestQuality"}
            assert json.loads(written.text["portraitlab"])["select"] == names[choice]


def test_a_bad_photo_is_named_with_the_remedy(
    portraitlab: Command, export: Export, files: list[Path], tmp_path: Path
) -> None:
    noise, cut, text = (tmp_path / name for name in ("noise.png", "cut.png", "text.jpg"))
    Image.effect_noise((64, 64), 90).save(noise)
    cut.write_bytes(files[0].read_bytes()[:500])
    text.write_text("no picture")
    for path, message in (
        (noise, "shows no face; give another photo, with one face"),
        (cut, "cannot be read: "),
        (text, "is not a picture, or a broken one; give another photo"),
        (tmp_path / "none.png", "is not a file; give a picture."),
    ):
        role = "--target" if path == text else "--refs"
        given = ("--refs", files[0], role, path, "--out", tmp_path / "out")
        code, _, problem = portraitlab("generate", export(), *given)
        assert code == 1
        assert problem.startswith(f"{path} {message}"), problem
    assert not (tmp_path / "out").exists()
    # Before anything of the export is read.
    none = ("--refs", files[0], "--target", tmp_path / "none.png")
    assert portraitlab("generate", tmp_path / "none", *none)[2].startswith(
        f"{none[-1]} is not a file"
    )


@real
def test_real_photos_of_two_people_or_none_are_refused(
    portraitlab: Command, export: Export, tmp_path: Path
) -> None:
    packs = (f"encoder.root={PACKS}", "encoder.name=lab_edge")
    folder = export("encoder=insightface", *packs, "cond=keypoints", "data=folder", "data.root=.")
    two = REAL / "awkward" / "face_recognition-two_people.jpg"
    one, aim = sorted((REAL / "photos").glob("*/*.jpg"))[:2]
    given = ("--set", f"encoder.root={PACKS}", "--out", tmp_path / "out")
    code, _, problem = portraitlab("generate", folder, "--refs", one, two, *given)
    assert code == 1
    assert problem.startswith(f"{two} shows 2 faces, not one; give another photo"), problem
    code, output, problem = portraitlab("generate", folder, "--refs", one, "--target", aim, *given)
    assert (code, problem) == (0, "")
    assert Image.open(output.strip()).size == (64, 64)
    code, _, problem = portraitlab("generate", folder, "--refs", one)
    assert code == 1
    assert "needs paths on this machine: encoder.root; give them as `--set encoder.root" in problem


@real
def test_clip_is_looked_for_in_the_folder_that_the_export_is_given(
    portraitlab: Command, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    clip = write_clip(tmp_path / "clip")
    packs = (f"encoder.root={PACKS}", "encoder.name=lab_edge")
    real_photos = ("cond=keypoints", "data=folder", "data.root=.")
    folder = export(
        *("encoder=insightface", *packs, "clip=vit_l14", f"clip.folder={clip}", *real_photos)
    )
    photo = next((REAL / "photos").glob("*/*.jpg"))
    given = ("--refs", photo, "--set", f"encoder.root={PACKS}", "--out", tmp_path / "out")
    code, _, problem = portraitlab("generate", folder, *given)
    assert code == 1
    assert "or give a folder that has them: encoder.clip.folder=FOLDER\n" in problem
    place = f"encoder.clip.folder={clip}"
    code, _, problem = portraitlab("generate", folder, *given, "--set", place)
    assert (code, problem) == (0, "")
    (clip / "preprocessor_config.json").write_text("{}")
    code, _, problem = portraitlab("generate", folder, *given, "--set", place)
    assert (code, "or give another encoder.clip.folder" in problem) == (1, True)
    (clip / "model.safetensors").unlink()
    code, _, problem = portraitlab("generate", folder, *given, "--set", place)
    assert (code, f"missing in {place}: model.safetensors" in problem) == (1, True)


def test_a_bad_option_is_named_before_anything_is_loaded(
    portraitlab: Command, files: list[Path], tmp_path: Path
) -> None:
    for given, message in (
        (("--count", 0), "--count=0: a whole number from 1"),
        (("--lora", "a.safetensors:much"), "'much' is not a number; give PATH[:SCALE]"),
        (("--controlnet", "folder"), "is not of the form FOLDER:IMAGE[:SCALE]"),
        (("--controlnet", "a:b:c:1"), "is not of the form FOLDER:IMAGE[:SCALE]"),
        (("--controlnet", "a:b:c"), "'c' is not a number"),
        (("--lora", "a.safetensors:nan"), "'nan' is not a number; give PATH[:SCALE]"),
        (("--lora", "a.safetensors"), "a.safetensors is no .safetensors file; give a LoRA"),
        (("--controlnet", f"{tmp_path}:{files[0]}"), "is not a folder with a config.json; give a"),
        (("--out", files[0]), "is a file; give a folder."),
        (("--out", files[0] / "new"), f"new: {files[0]} is a file; give a folder."),
        (("--set", "encoder.root"), "has no value; give it as --set encoder.root=VALUE"),
        (("--set", "seed=["), "--set seed=[: '[' is not valid YAML"),
        ((), "has no portraitlab.json, so it is not an exported run"),
    ):
        code, _, problem = portraitlab("generate", tmp_path, "--refs", files[0], *given)
        assert (code, message in problem) == (1, True), problem


def test_numbers_and_settings_are_checked(
    portraitlab: Command, export: Export, files: list[Path], tmp_path: Path
) -> None:
    for given, message in (
        (("--steps", 0), "sampler.steps=0: a whole number from 1 is needed"),
        (("--guidance", -1), "sampler.guidance=-1.0: a number from 0 is needed; 1 is none"),
        (("--set", "encoder.rot=1"), "encoder.rot is not a setting of this export"),
        (("--set", "minimum_side=abc"), "minimum_side is 'abc'; give a number"),
        (("--set", "cond={_target_: os.system}"), "os.system', which no file of conf/ names"),
        (("--base", tmp_path / "none"), "none is no folder"),
        (("--device", "cpu", "--offload", "model"), "--offload model: --device is cpu"),
        (("--vae-tiling",), "the miniature world's autoencoder is small"),
    ):
        code, _, problem = portraitlab(
            "generate", export(), "--refs", files[0], *given, "--out", tmp_path
        )
        assert (code, message in problem) == (1, True), problem
    assert not list(tmp_path.iterdir())
