"""Time a call of the bare UNet, of a ControlNet with it, and of RepControlNet, unmerged and merged.

python benchmarks/rep_controlnet.py                            (a quiet machine; writes results/)
python benchmarks/rep_controlnet.py --scale sd15 --device cuda (a GPU: random weights, float16)

All ways run in turns, so that other work on the machine affects them alike. The control image is
read once a portrait by RepControlNet, before the calls, and in each call by the ControlNet.
"""

from __future__ import annotations

import argparse
import time

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from records import machine, write
from torch import Tensor
from training_step import main_job

from portraitlab.faces.encoder.sizes import feature_sizes
from portraitlab.method.model import PortraitModel
from portraitlab.training.build import build_model
from portraitlab.types import Condition

ROUNDS = 60
MOST = 1.02
"""Most time of a merged call, as a multiple of the bare UNet's."""
WAYS = {
    "bare UNet": ("net=none", False),
    "ControlNet": ("net=controlnet", False),
    "RepControlNet, unmerged": ("net=rep_controlnet", False),
    "RepControlNet, merged": ("net=rep_controlnet", True),
}


def settings(scale: str, precision: str, *overrides: str) -> DictConfig:
    """Compose a configuration with a control image and without identity.

    precision: precision of backbone=sd15, whose weights are random; the miniature's is float32.
    """
    given = [f"scale={scale}", "fusion=none", *overrides]
    if scale == "sd15":
        given += ["backbone.pretrained=false", f"backbone.precision={precision}"]
    return main_job(*given)


def build(config: DictConfig, device: torch.device) -> PortraitModel:
    """Build the model of a configuration to draw with; untrained weights take the same time."""
    model = build_model(config, instantiate(config.backbone), feature_sizes(config.encoder))
    return model.to(device).eval().requires_grad_(False)


def condition(model: PortraitModel, batch: int) -> Condition:
    """Make a condition of a prompt and a random control image, read as for a drawing."""
    text = model.backbone.encode_text(["a photo of a person"] * batch)
    drawing = None
    if model.net.control:
        shape = (batch, *model.drawing_shape)
        drawing = model.net.read_drawing(torch.rand(shape, device=text.words.device))
    return Condition(text, None, drawing)


@torch.inference_mode()
def seconds_of(model: PortraitModel, given: Condition, noisy: Tensor) -> float:
    """Time one call, at one noise level."""
    timesteps = torch.full((len(noisy),), 500, device=noisy.device)
    begun = time.perf_counter()
    with model.backbone.computing():
        prediction = model.predict(noisy, timesteps, given)
    prediction.flatten()[0].item()  # waits for the device
    return time.perf_counter() - begun


def main() -> None:
    """Time all ways in turns, and check the merged one against the bare UNet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--scale", choices=("mini", "sd15"), default="mini")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()

    # Build all ways, and their conditions.
    models, conditions = {}, {}
    for name, (net, merged) in WAYS.items():
        precision = "float16" if arguments.device.type == "cuda" else "float32"
        model = build(settings(arguments.scale, precision, net), arguments.device)
        models[name] = model.for_drawing() if merged else model
        with torch.inference_mode(), models[name].backbone.computing():
            conditions[name] = condition(models[name], arguments.batch)
    backbone = models["bare UNet"].backbone
    shape = (backbone.latent_channels, backbone.latent_size, backbone.latent_size)
    noisy = torch.randn(arguments.batch, *shape, device=arguments.device)

    # Time them in turns; the first round warms up.
    rounds = [
        {name: seconds_of(model, conditions[name], noisy) for name, model in models.items()}
        for _ in range(1 + arguments.rounds)
    ][1:]
    seconds = {name: min(times[name] for times in rounds) for name in WAYS}
    ratios = {name: round(taken / seconds["bare UNet"], 3) for name, taken in seconds.items()}
    write(
        f"rep_controlnet_{arguments.scale}", seconds, scale=arguments.scale, batch=arguments.batch,
        device=machine(arguments.device), times_the_bare_unet=ratios,
    )  # fmt: skip
    print(ratios)
    if ratios["RepControlNet, merged"] > MOST:
        raise SystemExit(f"a merged call takes more than {MOST} times a bare one")


if __name__ == "__main__":
    main()
