"""Draw new portraits of a person from photos, with an exported run."""

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
from portraitlab.support.paths import CONF

if TYPE_CHECKING:
    from portraitlab.deploy.pipeline import PortraitPipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The export, the photos, the prompt, what is added, and where the pictures go."""
    add = parser.add_argument
    told = "that portraitlab export wrote; the current folder where left out"
    add("folder", metavar="EXPORT", type=Path, nargs="?", default=Path(), help=told)
    add(
        "--refs", type=Path, nargs="+", required=True, metavar="PHOTO",
        help="photos of the person, one face each",
    )  # fmt: skip
    add(
        "--target", type=Path, metavar="PHOTO",
        help="gives expression and pose, not the face (default: the first of --refs)",
    )  # fmt: skip
    add("--prompt", default="a photo of a person", help="the look (default: a photo of a person)")
    add("--negative-prompt", default="", metavar="TEXT", help="what to stay away from")
    add("--seed", type=int, default=0, help="of the first picture; the next ones' follow it")
    add("--count", type=int, default=1, help="of pictures (default: 1)")
    add("--steps", type=int, help="noise levels (default: as the run was scored)")
    add("--guidance", type=float, help="1 is without (default: as the run was scored)")
    names = sorted({path.stem for path in (CONF / "select").glob("*.yaml")} - {"manual"})
    add("--select", choices=names, help="whose shape the face has (default: as it was scored)")
    add("--base", type=Path, metavar="FOLDER", help="the base, or another checkpoint of it")
    add(
        "--lora", action="append", default=[], metavar="PATH[:SCALE]",
        help="a LoRA of the base, safetensors; repeatable",
    )  # fmt: skip
    add(
        "--controlnet", action="append", default=[], metavar="FOLDER:IMAGE[:SCALE]",
        help="a further ControlNet of the base, and what it reads; repeatable",
    )  # fmt: skip
    add(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="a setting of portraitlab.json, as encoder.root=FOLDER; repeatable",
    )  # fmt: skip
    add("--device", help="cpu or cuda (default: cuda where there is one)")
    add(
        "--offload", choices=("model", "sequential"),
        help="have on the GPU only the part, or only the layer (slow), that computes",
    )  # fmt: skip
    add("--vae-slicing", action="store_true", help="decode one picture at a time: less memory")
    add("--vae-tiling", action="store_true", help="decode in tiles: less memory, nearly the same")
    add("--out", type=Path, default=Path("portraits"), help="folder (default: portraits)")


def run(given: argparse.Namespace) -> None:
    """Draw and save. Raises ValueError for what the user can mend, naming the file."""
    if given.count < 1:
        raise ValueError(f"--count {given.count}: give 1 or more")
    loras = [_scaled(text, "--lora", "PATH[:SCALE]", 1) for text in given.lora]
    controlnets = [
        _scaled(text, "--controlnet", "FOLDER:IMAGE[:SCALE]", 2) for text in given.controlnet
    ]
    settings: dict[str, Any] = dict(_setting(text) for text in given.set)
    if given.select:
        chosen = (CONF / "select" / f"{given.select}.yaml").read_text(encoding="utf-8")
        settings["select"] = yaml.safe_load(chosen)
    for path in (*given.refs, given.target, *(image for (_, image), _ in controlnets)):
        if path is not None and not path.is_file():  # loading models takes minutes at full size
            raise ValueError(f"{path} is no file; give a picture's.")
    for (file,), _ in loras:
        if not file.is_file():
            raise ValueError(f"{file} is no .safetensors file; give a LoRA of the base.")
    for (folder, _), _ in controlnets:
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"--controlnet {folder} is no folder with a config.json; give a ControlNet in "
                "diffusers' format. Nothing is fetched."
            )
    there = next(place for place in (given.out, *given.out.absolute().parents) if place.exists())
    if not there.is_dir():  # the pictures would be drawn first, and lost
        raise ValueError(f"--out {given.out}: {there} is a file; give a folder.")

    import torch

    from portraitlab.deploy.pipeline import PortraitPipeline
    from portraitlab.scoring.pictures import save

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: torch sees no GPU on this machine; use --device cpu")
    if given.offload and device == "cpu":
        told = "--device is cpu" if given.device else "torch sees no GPU on this machine"
        raise ValueError(
            f"--offload {given.offload}: {told}, and it is a GPU that offload spares; leave it out"
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
    references = [_portrait(pipeline, path) for path in given.refs]
    target = None if given.target is None else _portrait(pipeline, given.target)
    controls = [
        pipeline.read_control(folder, _picture(image), scale)
        for (folder, image), scale in controlnets
    ]
    if loras:
        pipeline.use_loras([(file, scale) for (file,), scale in loras])
    images = pipeline(
        references, target, given.prompt, given.negative_prompt, given.steps, given.guidance,
        given.seed, given.count, controls,
    )  # fmt: skip
    about = _about(given, pipeline)
    for image, (seed, path) in zip(images, _places(given.out, given.seed), strict=False):
        save(image, path, {**about, "seed": str(seed)})
        print(path)


def _portrait(pipeline: PortraitPipeline, path: Path) -> Any:
    """The portrait in a file. Raises ValueError, naming it, where it cannot be used."""
    remedy = "give another photo, with one face that is seen well, or cut this one to the person"
    with _naming(path, remedy):
        return pipeline.see(read_photo(path))


def _picture(path: Path) -> Image.Image:
    """A control image of any content. Raises as _portrait does."""
    with _naming(path, "give another picture"):
        return Image.fromarray(read_photo(path).image)


@contextmanager
def _naming(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except UnusablePhoto as error:
        raise ValueError(f"{path} {error}; {remedy}.") from error


def _scaled(text: str, option: str, form: str, paths: int) -> tuple[list[Path], float]:
    """Paths, and the number behind them or 1. Raises ValueError for another form."""
    *parts, last = text.split(":")
    if len(parts) == paths:
        try:
            scale = float(last)
        except ValueError:
            scale = math.nan
        if not math.isfinite(scale):
            raise ValueError(f"{option} {text}: {last!r} is no number; give {form}")
        return [Path(part).expanduser() for part in parts], scale
    if len(parts) + 1 != paths:
        raise ValueError(f"{option} {text} is not of the form {form}")
    return [Path(part).expanduser() for part in (*parts, last)], 1.0


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--set {text} names no value; give it as --set {text}=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {text}: {value!r} is no value in YAML; quote it") from error


def _about(given: argparse.Namespace, pipeline: PortraitPipeline) -> dict[str, str]:
    """What a picture says of itself; files by name and checksum, not by where they lie."""
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
        "vae_tiling": given.vae_tiling,  # which alone of what saves memory changes the picture
    }
    return {"Software": "PortraitLab", "portraitlab": json.dumps(about)}


def _student(sampler: Mapping[str, Any]) -> list[str]:
    """The names of the low-rank weights that a sampler draws with."""
    return list(sampler.get("weights", {}).get("files", []))


def _places(folder: Path, seed: int) -> Iterator[tuple[int, Path]]:
    """Seeds from the first on, each with a file that is not there yet."""
    number = 0
    while True:
        while (path := folder / f"{number:04d}.png").exists():
            number += 1
        yield seed, path
        seed, number = seed + 1, number + 1
