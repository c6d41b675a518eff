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
        "--refs", type=Path, nargs="+", metavar="PHOTO",
        help="photos of the person, with one face each",
    )  # fmt: skip
    add(
        "--person", type=Path, nargs="+", action="append", default=[], metavar="PHOTO",
        help="photos of one person of a group, in place of --refs; once for each, followed by --at",
    )  # fmt: skip
    add(
        "--at", type=_box, action="append", default=[], metavar="LEFT,TOP,RIGHT,BOTTOM",
        help="place of that person's face, as fractions of the picture",
    )  # fmt: skip
    add(
        "--skeleton", type=Path, metavar="PICTURE",
        help="skeletons of the group, for a run that reads them",
    )  # fmt: skip
    add(
        "--target", "--style", type=Path, metavar="PHOTO",
        help="photo that gives expression and pose, not the face; of IC-Portrait, the style "
        "(default: the first of --refs)",
    )  # fmt: skip
    add(
        "--prompt",
        help="text that describes the picture (default: a photo of a person, or of a group)",
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
    people = _people(given)
    check_whole("--count", given.count)
    loras = [_scaled(text, "--lora", "PATH[:SCALE]", 1) for text in given.lora]
    controlnets = [
        _scaled(text, "--controlnet", "FOLDER:IMAGE[:SCALE]", 2) for text in given.controlnet
    ]
    settings: dict[str, Any] = dict(_setting(text) for text in given.set)
    if given.select:
        chosen = (CONF / "select" / f"{given.select}.yaml").read_text(encoding="utf-8")
        settings["select"] = yaml.safe_load(chosen)
    photos = [path for paths, _ in people for path in paths]
    pictures = (given.target, given.skeleton, *(image for (_, image), _ in controlnets))
    for path in (*photos, *pictures):
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

    from portraitlab.deploy.groups import GroupMember
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
    seen = [[_portrait(pipeline, path) for path in paths] for paths, _ in people]
    target = None if given.target is None else _portrait(pipeline, given.target)
    controls = [
        pipeline.read_control(folder, _picture(image), scale)
        for (folder, image), scale in controlnets
    ]
    if loras:
        pipeline.use_loras([(file, scale) for (file,), scale in loras])

    # Draw and save the pictures.
    prompt = given.prompt or f"a photo of a {'group of people' if given.person else 'person'}"
    drawing = {
        "prompt": prompt, "negative_prompt": given.negative_prompt,
        "steps": given.steps, "guidance": given.guidance,
        "seed": given.seed, "num_images": given.count, "controls": controls,
    }  # fmt: skip
    if given.person:
        placed = [GroupMember(photos, at) for photos, (_, at) in zip(seen, people, strict=True)]
        skeleton = None if given.skeleton is None else _picture(given.skeleton)
        images = pipeline.group(placed, skeleton, **drawing)
    else:
        images = pipeline(seen[0], target, **drawing)
    about = _metadata(given, prompt, pipeline)
    for image, (seed, path) in zip(images, _places(given.out, given.seed), strict=False):
        save(image, path, {**about, "seed": str(seed)})
        print(path)


def _people(given: argparse.Namespace) -> list[tuple[list[Path], Any]]:
    """Return the photos and the place of each person; None is the place of one person alone.

    Raises ValueError where people and places do not belong together.
    """
    if not given.person:
        if given.at or given.skeleton:
            raise ValueError("--at and --skeleton draw a group; give each person by --person.")
        if not given.refs:
            raise ValueError("There is no photo; give --refs PHOTO, or --person for a group.")
        return [(given.refs, None)]
    if given.refs or given.target:
        raise ValueError("--person cannot be combined with --refs or --target; leave them out.")
    if len(given.person) != len(given.at):
        raise ValueError(
            f"There are {len(given.person)} persons and {len(given.at)} places; give one --at for "
            "each --person."
        )
    from portraitlab.deploy.groups import check_boxes

    check_boxes(given.at)
    return list(zip(given.person, given.at, strict=True))


def _box(text: str) -> tuple[float, ...]:
    """Parse left,top,right,bottom."""
    numbers = tuple(map(float, text.split(",")))
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"{text} has {len(numbers)} numbers; give four")
    return numbers


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


def _metadata(given: argparse.Namespace, prompt: str, pipeline: PortraitPipeline) -> dict[str, str]:
    """Describe a picture for its metadata; files by name and checksum, without their folders."""
    from portraitlab.deploy.export.folder import read_export
    from portraitlab.support.hashes import file_digest

    def named(path: Path) -> str:
        return f"{path.name} sha256:{file_digest(path)[:12]}"

    def last_names(texts: list[str]) -> list[str]:
        return [":".join(Path(part).name for part in text.split(":")) for text in texts]

    # Take the sampler's settings, as changed by the command.
    chosen = {name: getattr(given, name) for name in ("steps", "guidance")}
    drawn = {name: value for name, value in chosen.items() if value is not None}
    sampler, places = {**pipeline.config.sampler, **drawn}, ("_target_", "folder", "weights")
    # List the inputs and the settings.
    about = {
        "run": read_export(given.folder).about["key"],
        "base": None if given.base is None else given.base.name,
        "references": [named(path) for path in given.refs or []],
        "target": named(given.target or given.refs[0]) if given.refs else None,
        "people": [
            {"references": [named(path) for path in paths], "at": at}
            for paths, at in zip(given.person, given.at, strict=True)
        ],
        "skeleton": None if given.skeleton is None else named(given.skeleton),
        "select": type(pipeline.select).__name__,
        "prompt": prompt,
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
