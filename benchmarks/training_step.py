"""Time a training step of `python run.py` against the same step without its optimisations.

python benchmarks/training_step.py      (a quiet machine; writes benchmarks/results/)

The UNet's own attention is plain in every way; the ways differ in the refiner's attention and in
that over identity tokens.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from records import write
from torch import Tensor

from portraitlab.data.ahead import EncodedAhead
from portraitlab.data.batches import TrainingBatches
from portraitlab.diffusion.precisions import cast_once
from portraitlab.support.precision import precision_of, quick_attention
from portraitlab.training.build import Parts, build_parts
from portraitlab.training.module import step_generator
from portraitlab.types import Batch, FaceGeometry

ROUNDS, STEPS = 5, 8
CPU = torch.device("cpu")
WAYS = {
    "float32, fused attention of identity, unfused Adam": ("32-true", "fused", "each time", False),
    "float32, fused attention of identity, fused Adam": ("32-true", "fused", "each time", True),
    "bfloat16, fused attention of identity, fused Adam": ("bf16-mixed", "fused", "each time", True),
    "bfloat16, plain attention of identity, fused Adam": ("bf16-mixed", "plain", "each time", True),
    "bfloat16, plain attention of identity, fused Adam, frozen weights cast once": (
        "bf16-mixed", "plain", "once", True,
    ),
}  # fmt: skip


def main_job(*overrides: str) -> DictConfig:
    """Compose the configuration of the main job, with overrides."""
    conf = Path(__file__).parents[1] / "conf"
    with initialize_config_dir(str(conf), version_base="1.3"):
        config = compose("config", ["logger=none", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    OmegaConf.set_struct(config, False)
    return config


def ready_batches(config: DictConfig, parts: Parts, batches: TrainingBatches) -> list[Batch]:
    """Return all batches of a training, with the control latents, encoded beforehand."""
    precision = precision_of(config.trainer)

    def drawing(shape: FaceGeometry, target: FaceGeometry) -> Tensor | None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            return parts.model.drawing(shape, target)

    with cast_once(parts.model, precision):
        ahead = EncodedAhead(batches, drawing)
        return [ahead[step] for step in range(len(batches))]


def main() -> None:
    """Time all ways in turns, so that other work on the machine affects them alike."""
    # Build the main job, and its batches ahead.
    config = main_job("scale.world.identities=32")
    parts = build_parts(config, CPU)
    photos = instantiate(config.data).train_photos(parts.frozen)
    objective = instantiate(config.objective)
    batches = TrainingBatches(
        photos, refs=config.refs, batch_size=config.batch_size, steps=STEPS, seed=0,
        prompt_dropout=config.prompt_dropout,
    )  # fmt: skip
    ready = ready_batches(config, parts, batches)
    parameters = parts.model.trained_parameters()

    def steps(optimiser: torch.optim.Optimizer, precision: str, attention: str, cast: str) -> float:
        half = precision == "bf16-mixed"
        with cast_once(parts.model, precision) if cast == "once" else nullcontext():
            begun = time.perf_counter()
            for step in range(STEPS):
                autocast = torch.autocast("cpu", torch.bfloat16, enabled=half)
                with autocast, quick_attention(CPU) if attention == "plain" else nullcontext():
                    generator = step_generator(0, step)
                    losses = objective(parts.model, ready[step], generator, progress=0.0)
                optimiser.zero_grad()
                losses["loss"].backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
            return (time.perf_counter() - begun) / STEPS

    # Time all ways in each round; the first round warms up.
    ways = {
        name: partial(steps, torch.optim.AdamW(parameters, 1e-6, fused=fused, foreach=False), *rest)
        for name, (*rest, fused) in WAYS.items()
    }
    rounds = [{name: way() for name, way in ways.items()} for _ in range(1 + ROUNDS)][1:]
    seconds = {name: min(times[name] for times in rounds) for name in ways}
    write("training_step", seconds, batch_size=config.batch_size)


if __name__ == "__main__":
    main()
