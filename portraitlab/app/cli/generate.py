"""Draw new portraits of a person from photos with an exported run."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from PIL import Image

from portraitlab.data.photo import UnusablePhoto, read_photo
from portraitlab.support.checks import check_whole
from portraitlab.support.paths import CONF

if TYPE_CHECKING:
    from portraitlab.deploy.pipeline import PortraitPipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the export, the photos, the prompt, additions to the model, and the output."""
    # Add the export, the photos and the prompt.
    add = parser.add_argument
    exported = "folder that portraitlab export wrote (default: the current folder)"
    add("folder", metavar="EXPORT", type=Path, nargs="?", default=Path(), help=exported)
    add(
        "--refs", type=Path, nargs="+", required=True, metavar="PHOTO",
        help="photos of the person, with one face each",
    )  # fmt: skip
    add(
        "--target", type=Path, metavar="PHOTO",
        help="photo that gives expression and pose, not the face (default: the first of --refs)",
    )  # fmt: skip
    add(
        "--prompt", default="a photo of a person",
        help="text that describes the picture (default: a photo of a person)",
    )  # fmt: skip
    add("--negative-prompt", default="", metavar="TEXT", help="text that the picture avoids")
    # Add the settings of the sampler and of the selection.
    add("--seed", type=int, default=0, help="seed of the first picture, then + 1 (default: 0)")
    add("--count", type=int, default=1, help="number of pictures (default: 1)")
    add("--steps", type=int, help="number of sampling steps (default: that of the run's scoring)")
    add("--guidance", type=float, help="guidance scale, 1 for none (default: the scoring's)")
    names = sorted({path.stem for path in (CONF / "select").glob("*.yaml")} - {"manual"})
    add(
        "--select",
        choices=names,
        help="choice of the shape's reference (default: the scoring's)",
    )
    # Add changes of the model.
    add("--base", type=Path, metavar="FOLDER", help="the base, or another checkpoint of it")
    add(
        "--lora", action="append", default=[], metavar="PATH[:SCALE]",
        help="a LoRA of the base, in safetensors; repeatable",
    )  # fmt: skip
    add(
        "--controlnet", action="append", default=[], metavar="FOLDER:IMAGE[:SCALE]",
        help="a further ControlNet of the base, and its control image; repeatable",
    )  # fmt: skip
    add(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="change a setting of portraitlab.json, e.g. encoder.root=FOLDER; repeatable",
    )  # fmt: skip
    # Add the device, options to save memory, and the output.
    add("--device", help="cpu or cuda (default: cuda if available)")
    add(
        "--offload", choices=("model", "sequential"),
        help="keep only the computing part, or layer (slow), on the GPU",
    )  # fmt: skip
    add("--vae-slicing", action="store_true", help="decode one picture at a time to save memory")
    add(
        "--vae-tiling", action="store_true",
        help="decode in tiles to save memory, with nearly the same picture",
    )  # fmt: skip
    add("--out", type=Path, default=Path("portraits"), help="output folder (default: portraits)")


def run(given: argparse.Namespace) -> None:
    """Draw and save pictures. Raises ValueError for errors of the user, naming the file."""
    # Check the arguments before models are loaded, which takes minutes at full size.
    check_whole("--count", given.count)
    loras = [_scaled(text, "--lora", "PATH[:SCALE]", 1) for text in given.lora]
    controlnets = [
        _scaled(text, "--controlnet", "FOLDER:IMAGE[:SCALE]", 2) for text in given.controlnet
    ]
    settings: dict[str, Any] = dict(_setting(text) for text in given.set)
    if given.select:
        chosen = (CONF / "select" / f"{given.select}.yaml").read_text(encoding="utf-8")
        settings["select"] = yaml.safe_load(chosen)
    for path in (*given.refs, given.target, *(image for (_, image), _ in controlnets)):
        if path is not None and not path.is_file():
            raise ValueError(f"{path} is not a file; give a picture.")
    for (file,), _ in loras:
        if not file.is_file():
            raise ValueError(f"{file} is no .safetensors file; give a LoRA of the base.")
    for (folder, _), _ in controlnets:
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"--controlnet {folder} is not a folder with a config.json; give a ControlNet in "
                "diffusers' format. Nothing is downloaded."
            )
    existing = next(path for path in (given.out, *given.out.absolute().parents) if path.exists())
    if not existing.is_dir():  # the pictures would be drawn first, and lost
        raise ValueError(f"--out {given.out}: {existing} is a file; give a folder.")

    import torch

    from portraitlab.deploy.pipeline import PortraitPipeline
    from portraitlab.scoring.pictures import save

    # Load the export and its additions.
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: torch sees no GPU on this machine; use --device cpu")
    if given.offload and device == "cpu":
        reason = "--device is cpu" if given.device else "torch sees no GPU on this machine"
        raise ValueError(
            f"--offload {given.offload}: {reason}, and offload saves memory of a GPU; leave it out"
        )
    place = "cpu" if given.offload else device
    pipeline = PortraitPipeline.from_pretrained(given.folder, given.base, place, settings)
    for (file,), _ in loras:
        if file.name in _student(pipeline.config.sampler):
            raise ValueError(f"--lora {file}: this export draws with it already; leave it out")
    if given.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif given.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    if given.vae_slicing:
        pipeline.enable_vae_slicing()
    if given.vae_tiling:
        pipeline.enable_vae_tiling()

    # Read the photos and control images.
    references = [_portrait(pipeline, path) for path in given.refs]
    target = None if given.target is None else _portrait(pipeline, given.target)
    controls = [
        pipeline.read_control(folder, _picture(image), scale)
        for (folder, image), scale in controlnets
    ]
    if loras:
        pipeline.use_loras([(file, scale) for (file,), scale in loras])

    # Draw and save the pictures.
    images = pipeline(
        references, target, given.prompt, given.negative_prompt, given.steps, given.guidance,
        given.seed, given.count, controls,
    )  # fmt: skip
    about = _about(given, pipeline)
    for image, (seed, path) in zip(images, _places(given.out, given.seed), strict=False):
        save(image, path, {**about, "seed": str(seed)})
        print(path)


def _portrait(pipeline: PortraitPipeline, path: Path) -> Any:
    """Cut the portrait from a file. Raises ValueError with its name where it cannot be used."""
    remedy = "give another photo, with one face clearly visible, or crop this one to the person"
    with _naming(path, remedy):
        return pipeline.see(read_photo(path))


def _picture(path: Path) -> Image.Image:
    """Read a control image. Raises as _portrait does."""
    with _naming(path, "give another picture"):
        return Image.fromarray(read_photo(path).image)


@contextmanager
def _naming(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except UnusablePhoto as error:
        raise ValueError(f"{path} {error}; {remedy}.") from error


def _scaled(text: str, option: str, form: str, paths: int) -> tuple[list[Path], float]:
    """Parse paths, and the scale after them or 1. Raises ValueError for another form."""
    *parts, last = text.split(":")
    if len(parts) == paths:
        try:
            scale = float(last)
        except ValueError:
            scale = math.nan
        if not math.isfinite(scale):
            raise ValueError(f"{option} {text}: {last!r} is not a number; give {form}")
        return [Path(part).expanduser() for part in parts], scale
    if len(parts) + 1 != paths:
        raise ValueError(f"{option} {text} is not of the form {form}")
    return [Path(part).expanduser() for part in (*parts, last)], 1.0


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--set {text} has no value; give it as --set {text}=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {text}: {value!r} is not valid YAML; quote it") from error


def _about(given: argparse.Namespace, pipeline: PortraitPipeline) -> dict[str, str]:
    """Describe a picture for its metadata; files by name and checksum, without their folders."""
    from portraitlab.deploy.export.folder import read_export
    from portraitlab.support.hashes import file_digest

    def named(path: Path) -> str:
        return f"{path.name} sha256:{file_digest(path)[:12]}"

    def last_names(texts: list[str]) -> list[str]:
        return [":".join(Path(part).name for part in text.split(":")) for text in texts]

    chosen = {name: getattr(given, name) for name in ("steps", "guidance")}
    drawn = {name: value for name, value in chosen.items() if value is not None}
    sampler, places = {**pipeline.config.sampler, **drawn}, ("_target_", "folder", "weights")
    about = {
        "run": read_export(given.folder).about["key"],
        "base": None if given.base is None else given.base.name,
        "references": [named(path) for path in given.refs],
        "target": named(given.target or given.refs[0]),
        "select": type(pipeline.select).__name__,
        "prompt": given.prompt,
        "negative_prompt": given.negative_prompt,
        **{name: value for name, value in sampler.items() if name not in places},
        "student": _student(sampler),
        "lora": last_names(given.lora),
        "controlnet": last_names(given.controlnet),
        "vae_tiling": given.vae_tiling,  # the only option to save memory that changes the picture
    }
    return {"Software": "PortraitLab", "portraitlab": json.dumps(about)}


def _student(sampler: Mapping[str, Any]) -> list[str]:
    """List the names of the low-rank weights that a sampler draws with."""
    return list(sampler.get("weights", {}).get("files", []))


def _places(folder: Path, seed: int) -> Iterator[tuple[int, Path]]:
    """Yield seeds from the first on, each with a new file's path."""
    number = 0
    while True:
        while (path := folder / f"{number:04d}.png").exists():
            number += 1
        yield seed, path
        seed, number = seed + 1, number + 1
