"""Draw by a ControlNet and by RepControlNet with one acceleration after another (FPGA's headline).

python benchmarks/speed_ladder.py                             (a quiet machine; writes results/)
python benchmarks/speed_ladder.py --scale sd15 --device cuda  (a GPU: random weights, and float16)
python benchmarks/speed_ladder.py --weights RUN/model.safetensors   (a run's, fusion=none)

Each rung has all accelerations above it. Seconds are of 30 steps of DDIM with guidance and of the
decoding, and of a picture. Beside them is what the rung changes: the mean difference of its
pictures to those of the merged net in single precision, in levels of 255, and, where the miniature
judges, the mean cosine of its judge. Without --weights the copies start at 0 times the UNet's
weights, so that the miniature draws faces; random weights of sd15 draw none.

The paper accelerates to 2.5 s a picture on an L20 and does not state by what beside RepControlNet.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from records import RESULTS, machine, save
from rep_controlnet import build, settings
from safetensors.torch import load_file
from step_cache import StepCache
from torch import Tensor, nn

from portraitlab.faces.alignment import TEMPLATE
from portraitlab.method.model import PortraitModel
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.training.build import build_beside
from portraitlab.types import Condition, FaceGeometry

ACCELERATIONS = {
    "cache": "step caching",
    "compile": "torch.compile",
    "half": "half precision",
    "quantise": "int8 linear layers",
}
"""Accelerations of the merged net, in their order."""
REFERENCE = "RepControlNet, merged"
"""The rung whose pictures the others are compared with."""


@dataclass(frozen=True)
class Rung:
    """A way of drawing: a net, and accelerations by their keys."""

    net: str
    accelerations: frozenset[str] = frozenset()


def rungs(without: Collection[str]) -> dict[str, Rung]:
    """Return all rungs by name, except those of accelerations to leave out."""
    found = {"ControlNet": Rung("controlnet"), REFERENCE: Rung("rep_controlnet")}
    done: frozenset[str] = frozenset()
    for key, name in ACCELERATIONS.items():
        if key not in without:
            done |= {key}
            found[f"+ {name}"] = Rung("rep_controlnet", done)
    return found


class Drawing:
    """A rung's model, which draws the same pictures as often as it is called."""

    def __init__(self, rung: Rung, arguments: argparse.Namespace) -> None:
        # Build the model, with the trained weights where they are given.
        self.device, self.count = arguments.device, arguments.batch
        ratio = ["net.ratio=0.0"] if rung.net == "rep_controlnet" else []
        net = f"net={rung.net}"
        self.config = settings(arguments.scale, "float32", "cond=keypoints", net, *ratio)
        model = build(self.config, self.device)
        if arguments.weights is not None and rung.net == "rep_controlnet":
            model.load_trained_state_dict(load_file(arguments.weights))
        self.model, self.caches = accelerated(
            model.for_drawing(), rung, self.device, arguments.every
        )
        self.sampler = DDIM(arguments.steps, self.config.scale.guidance)

    @torch.inference_mode()
    def __call__(self) -> tuple[float, Tensor]:
        """Draw, and return the seconds and the pictures [B, 3, H, W] on the CPU."""
        model, backbone = self.model, self.model.backbone
        for cache in self.caches:
            cache.calls = 0
        points = (0.5 * TEMPLATE + 0.25).expand(self.count, -1, -1).to(self.device)
        face = FaceGeometry(points, torch.ones(self.count, device=self.device))
        shape = (backbone.latent_channels, backbone.latent_size, backbone.latent_size)
        generators = [torch.Generator().manual_seed(seed) for seed in range(self.count)]
        noise = torch.stack([torch.randn(shape, generator=each) for each in generators])
        # As a portrait is drawn: read text and control image, denoise, decode.
        begun = time.perf_counter()
        text = backbone.encode_text(["a photo of a person"] * self.count)
        drawing = model.drawing(face, face)
        assert drawing is not None
        condition = Condition(text, None, model.net.read_drawing(drawing))
        latents = self.sampler.trajectory(model, condition, noise.to(self.device))
        pictures = backbone.decode(latents).float().clamp(-1, 1).cpu()
        return time.perf_counter() - begun, pictures


def accelerated(
    model: PortraitModel, rung: Rung, device: torch.device, every: int
) -> tuple[PortraitModel, list[StepCache]]:
    """Apply a rung's accelerations to both UNets of guidance, the steered one and the bare one.

    every: steps of which one computes the deep features.
    """
    if not rung.accelerations:
        return model, []
    caches = []
    for unet in (model.net.running_unet(model.backbone), model.backbone.unet):
        if "half" in rung.accelerations:
            # Without diffusers' own `to`, which warns of what it would keep.
            nn.Module.to(unet, torch.float16 if device.type == "cuda" else torch.bfloat16)
        if "quantise" in rung.accelerations:
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

            quantize_(unet, Int8DynamicActivationInt8WeightConfig())
        cache = StepCache(unet, every if "cache" in rung.accelerations else 1)
        if "compile" in rung.accelerations:
            cache.compile_parts()
        caches.append(cache)
    steered, bare = caches
    # A merged net draws by the UNet that it is given.
    model.net.unet = steered
    backbone: Any = model.backbone.with_unet(bare)  # type: ignore[arg-type]  # called as one
    return PortraitModel(backbone, model.fusion, model.cond, model.net), caches


def judged(config: DictConfig) -> Callable[[Tensor], Tensor]:
    """Return the miniature judge's unit embeddings [B, e] of pictures."""
    judge = build_beside(config.judge, config, instantiate(config.encoder)).eval()
    return lambda pictures: judge.view([pictures]).identity


def main() -> None:
    """Build and warm up all rungs, then draw with them in turns."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--scale", choices=("mini", "sd15"), default="mini")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--without", nargs="+", choices=ACCELERATIONS, default=())
    arguments = parser.parse_args()

    # Build all rungs; those that this machine cannot draw are named, with the reason.
    drawings: dict[str, Drawing] = {}
    left_out: dict[str, str] = {}
    for name, rung in rungs(arguments.without).items():
        try:
            drawing = Drawing(rung, arguments)
            drawing()
            drawings[name] = drawing
        except (ImportError, RuntimeError, NotImplementedError) as error:
            left_out[name] = str(error).splitlines()[0]
            print(f"{name} is left out: {left_out[name]}")

    # Draw in turns.
    rounds = [
        {name: drawing() for name, drawing in drawings.items()} for _ in range(arguments.rounds)
    ]
    seconds = {name: min(each[name][0] for each in rounds) for name in drawings}
    pictures = {name: drawn for name, (_, drawn) in rounds[0].items()}
    first = drawings[REFERENCE]
    embed = judged(first.config) if arguments.scale == "mini" else None

    # Compare the pictures, and write the record.
    ladder: dict[str, Any] = {}
    known = None if embed is None else embed(pictures[REFERENCE])
    for name, taken in seconds.items():
        change = (pictures[name] - pictures[REFERENCE]).abs().mean() * 255 / 2
        figures = {
            "seconds": round(taken, 3),
            "seconds_a_picture": round(taken / arguments.batch, 3),
            "times_as_fast": round(seconds["ControlNet"] / taken, 2),
            "mean_change": round(float(change), 2),
        }
        if embed is not None and known is not None:
            figures["judge_cosine"] = round(float((embed(pictures[name]) * known).sum(1).mean()), 4)
        ladder[name] = figures
        print(f"{name:24s} {figures}")
    record = {
        "machine": machine(arguments.device), "torch": torch.__version__,
        "scale": arguments.scale, "batch": arguments.batch, "steps": arguments.steps,
        "guidance": float(first.config.scale.guidance), "every": arguments.every,
        "trained": arguments.weights is not None, "ladder": ladder, "left_out": left_out,
    }  # fmt: skip
    save(record, RESULTS / f"speed_ladder_{arguments.scale}.json")


if __name__ == "__main__":
    main()
