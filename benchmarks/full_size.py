"""Measure full size on one GPU: seconds a step, images a second, peak memory, by batch size.

python benchmarks/full_size.py                        (a GPU of 48 GiB or more; writes results/)
python benchmarks/full_size.py --minutes 8            (then it stops; the same command resumes)
python benchmarks/full_size.py --scale smoke --out F  (any machine: does the script run?)

SDXL and HiFi-Portrait (conf/scale/sdxl.yaml) have random weights, which are as fast as trained
ones, so that nothing is downloaded. Steps run in bf16-mixed on batches of random numbers, in the
sizes of CLIP ViT-L/14's and ArcFace's features of four references, in every combination of

- gradient checkpointing, or not;
- latents, texts and drawings computed beforehand, as the program does, or in each step from pixels
  and prompts, as many training scripts do;

and also with the identity loss beside the noise loss, which decodes an image of each sample (a face
is assumed to be found). Before the steps, portraits are drawn in 8 steps without guidance, as
HiFi-Portrait draws them with SDXL-Lightning. Each figure is written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from hydra.utils import instantiate
from records import RESULTS, machine, save
from torch import Tensor
from torch.nn import functional
from training_step import main_job

from portraitlab.deploy.cost import Sizes
from portraitlab.method.model import PortraitModel
from portraitlab.method.objective.weighted import Objective
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.runs.origin import commit
from portraitlab.support.precision import quick_attention
from portraitlab.training.build import build_model
from portraitlab.training.module import step_generator
from portraitlab.types import Batch, FaceFeatures, FaceGeometry

DRAWING_STEPS = 8
LONG = 10.0  # seconds: fewer steps are timed where they take longer
SCALES = {
    # Sizes of the references' features, and the largest batch to try.
    "sdxl": (Sizes(local_length=257, local_dim=1024, global_dim=512, references=4), 256),
    "smoke": (Sizes(local_length=17, local_dim=64, global_dim=128, references=4), 1),
}

Figures = dict[str, Any]


class OutOfTime(Exception):
    """The time limit of the command is reached."""


class Record:
    """The file of figures, written after each measurement; existing figures are kept.

    about: machine, code and sizes of all figures. until: value of time.monotonic() after which no
    measurement starts.

    Raises:
        ValueError: the file is about something else.
        OSError: it cannot be written; raised before the first figure, which takes minutes.
    """

    def __init__(self, path: Path, about: Figures, until: float) -> None:
        self.path = path
        self.about = about
        self.until = until
        self.rows: dict[str, list[Figures]] = {"drawing": [], "training": []}
        if path.is_file():
            there = _read(path, {*about, *self.rows})
            other = [
                f"{name} {there[name]} (here: {about[name]})"
                for name in about
                if there[name] != about[name]
            ]
            if other:
                raise ValueError(
                    f"{path} has figures of {', '.join(other)}; give another --out, delete it, or "
                    "continue with the same machine, commit and libraries"
                )
            self.rows = {kind: there[kind] for kind in self.rows}
        save({**self.about, **self.rows}, path)

    def fits(self, kind: str, way: Figures, measure: Callable[[int], Figures], count: int) -> bool:
        """Return True if `count` samples fit at once; measure where that is not known yet.

        Any RuntimeError of more than one sample means that they do not fit, since kernels without
        enough workspace or index range raise messages of their own; the message is recorded.
        Raises OutOfTime, and the errors of one sample other than a lack of memory.
        """
        named = {**way, "batch": count}
        for row in self.rows[kind]:
            if row.items() >= named.items():
                return bool(row["fits"])
        if time.monotonic() > self.until:
            raise OutOfTime
        try:
            row = {**named, "fits": True, **measure(count)}
        except torch.AcceleratorError:
            raise  # later measurements on this device would be meaningless
        except RuntimeError as error:
            if count == 1 and not isinstance(error, torch.OutOfMemoryError):
                raise
            row = {**named, "fits": False, "why": str(error).splitlines()[0]}
        self.rows[kind].append(row)
        save({**self.about, **self.rows}, self.path)
        print(row, flush=True)
        return bool(row["fits"])


def _read(path: Path, names: set[str]) -> Figures:
    """Read a record with all of these names. Raises ValueError for any other file."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        there = None
    if not isinstance(there, dict) or not names <= there.keys():
        raise ValueError(
            f"{path} is not a record of this benchmark's version; give another --out, or delete it"
        )
    return there


def climb(fits: Callable[[int], bool], most: int) -> None:
    """Try 1, 2, 4, ... samples, then bisect, to find the most that fit, at most `most`."""
    most_that_fits, too_many, count = 0, most + 1, 1
    while most_that_fits + 1 < too_many:
        if fits(count):
            most_that_fits = count
        else:
            too_many = count
        doubled = too_many > most
        count = min(2 * count, most) if doubled else (most_that_fits + too_many) // 2


def timed(work: Callable[[], object], batch: int, device: torch.device, steps: int) -> Figures:
    """Measure seconds of one call of `work`, images a second and peak memory.

    steps: calls to time, after two untimed ones; fewer where they take long.
    """
    gpu = device.type == "cuda"

    def seconds(pieces: int) -> float:
        begun = time.perf_counter()
        for _ in range(pieces):
            work()
        if gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / pieces

    if gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds(1)
    taken = seconds(max(1, min(steps, int(LONG / seconds(1)))))
    peak = round(torch.cuda.max_memory_allocated() / 2**30, 2) if gpu else None
    return {
        "seconds": round(taken, 4), "images_a_second": round(batch / taken, 3), "peak_gib": peak
    }  # fmt: skip


def random_batch(model: PortraitModel, sizes: Sizes, identity: int, count: int) -> Batch:
    """Make a random batch in the sizes of a real one, without a drawing."""
    backbone, refs = model.backbone, sizes.references
    device, edge = backbone.latent_scale.device, backbone.latent_size

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, device=device)

    mask = torch.ones(count, refs, dtype=torch.bool, device=device)
    keypoints = torch.rand(count, 5, 2, device=device)
    faces = FaceGeometry(keypoints, torch.ones(count, device=device))
    return Batch(
        latents=normal(backbone.latent_channels, edge, edge),
        text=backbone.encode_text(["a portrait"] * count),
        references=FaceFeatures(
            normal(refs, sizes.local_length, sizes.local_dim),
            functional.normalize(normal(refs, sizes.global_dim), dim=-1),
            mask,
        ),
        shape_geometry=faces,
        target_geometry=faces,
        identity=functional.normalize(normal(identity), dim=-1),
        person=torch.ones(count, 1, edge, edge, device=device),
        target_index=torch.zeros(count, dtype=torch.long, device=device),
    )


def made_now(model: PortraitModel, batch: Batch, pixels: Tensor) -> Batch:
    """Compute latents, texts and drawings of a batch from pixels, as within a step."""
    with torch.no_grad():
        return replace(
            batch,
            latents=model.backbone.encode(pixels),
            text=model.backbone.encode_text(["a portrait"] * len(batch)),
            drawing=model.drawing(batch.shape_geometry, batch.target_geometry),
        )


class Steps:
    """Training steps of a model as Lightning runs them in bf16-mixed; `count` are timed."""

    def __init__(self, model: PortraitModel, sizes: Sizes, count: int) -> None:
        self.model = model
        self.count = count
        self.sizes = sizes
        self.device = model.backbone.latent_scale.device
        self.parameters = model.trained_parameters()
        self.optimiser = torch.optim.AdamW(self.parameters, 1e-6, fused=True)

    def measure(self, objective: Objective, before: bool, identity: int, count: int) -> Figures:
        """Measure a step with `count` samples. before: its inputs were computed beforehand."""
        try:
            step = self.of(objective, before, identity, count)
            return timed(step, count, self.device, self.count)
        finally:
            self.optimiser.zero_grad(set_to_none=True)

    def of(
        self, objective: Objective, before: bool, identity: int, count: int
    ) -> Callable[[], None]:
        """Return a function that runs one step on a prepared batch."""
        model, edge = self.model, self.model.backbone.image_size
        half = torch.autocast(self.device.type, torch.bfloat16)
        with half, quick_attention(self.device):
            batch = random_batch(model, self.sizes, identity, count)
            drawing = torch.randn(count, *model.drawing_shape, device=self.device)
            ready = replace(batch, drawing=drawing)
            pixels = 2 * torch.rand(count, 3, edge, edge, device=self.device) - 1

        def step() -> None:
            with quick_attention(self.device):
                with torch.autocast(self.device.type, torch.bfloat16):
                    now = ready if before else made_now(model, batch, pixels)
                    loss = objective(model, now, step_generator(0, 0), progress=1.0)["loss"]
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
                self.optimiser.step()

        return step


def training(
    record: Record, scale: str, model: PortraitModel, sizes: Sizes, most: int, count: int
) -> None:
    """Measure steps in every combination, those without gradient checkpointing first."""
    steps = Steps(model, sizes, count)
    limits = {"start_fraction": 0, "timestep_min": 0, "timestep_max": 1000, "samples": "null"}
    whole = [f"scale.identity_loss.{name}={value}" for name, value in limits.items()]
    settings = {
        "noise": ["objective=noise"],
        "noise and identity": [*whole, "objective.terms.identity.threshold=-1"],
    }
    objectives = {
        name: instantiate(main_job(f"scale={scale}", *own).objective)
        for name, own in settings.items()
    }
    width = objectives["noise and identity"].terms["identity"].recogniser.global_dim
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        for name, before in (("noise", True), ("noise", False), ("noise and identity", True)):
            objective = objectives[name].to(steps.device)
            way = {"objective": name, "gradient_checkpointing": checkpointing, "beforehand": before}
            measure = partial(steps.measure, objective, before, width)
            climb(partial(record.fits, "training", way, measure), most)


def drawing(record: Record, model: PortraitModel, sizes: Sizes, most: int, times: int) -> None:
    """Measure the drawing of portraits."""
    sampler, device = DDIM(steps=DRAWING_STEPS, guidance=1.0), model.backbone.latent_scale.device

    def measure(count: int) -> Figures:
        batch = random_batch(model, sizes, 1, count)
        return timed(lambda: sampler.sample(model, batch, [*range(count)]), count, device, times)

    climb(partial(record.fits, "drawing", {}, measure), most)


def main() -> None:
    """Measure and write the record; exit with a message where there is no GPU."""
    # Read the arguments.
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="sdxl")
    parser.add_argument("--steps", type=int, default=5, help="most timed steps of each")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="start no measurement after them"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "full_size.json")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    gpu = torch.cuda.is_available()
    if arguments.scale == "sdxl" and not gpu:
        raise SystemExit(
            "Nothing was measured: torch sees no GPU on this machine, and full size needs one of "
            "48 GiB or more. --scale smoke --out FILE tries the script here."
        )
    # Build the backbone, and resume the record.
    device = torch.device("cuda" if gpu else "cpu")
    sizes, most = SCALES[arguments.scale]
    config = main_job(f"scale={arguments.scale}", "cond=keypoints", "objective=noise")
    random = {"pretrained": False, "device": str(device)} if arguments.scale == "sdxl" else {}
    backbone = instantiate(config.backbone, **random).to(device)
    about = {
        "machine": machine(device),
        "commit": commit(Path(__file__).parent),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "scale": arguments.scale,
        "pixels": backbone.image_size,
        "references": sizes.references,
        "precision": "bf16-mixed",
        "drawing_steps": DRAWING_STEPS,
    }
    try:
        record = Record(arguments.out, about, until)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    # Measure.
    model = build_model(config, backbone, sizes).to(device)  # type: ignore[arg-type]
    try:
        drawing(record, model, sizes, most, arguments.steps)
        training(record, arguments.scale, model, sizes, most, arguments.steps)
    except OutOfTime as error:
        raise SystemExit(
            f"Stopped after {arguments.minutes} minutes; the same command resumes {arguments.out}."
        ) from error


if __name__ == "__main__":
    main()
