"""Time the main job's training steps against a bare loop and diffusers' ControlNet recipe.

python benchmarks/main_job.py           (a quiet machine; writes benchmarks/results/)

The bare loop does the same arithmetic with the same modules on prepared batches: the main job's
additional time is the framework's. The recipe is a step of diffusers' ControlNet example on the
same UNet, autoencoder and text encoder: it encodes its batch's images and prompts in every step and
trains a ControlNetModel of HiFi-Net's sizes, without references. It runs by default and as with
--mixed_precision=bf16, which keeps frozen weights in bfloat16. Its counterpart is our fusion=none;
the main job does more, since it fuses references.

A step of ours includes its share of the control images of a whole training, which are encoded
before the first step. Latents and texts of photos, cached for all trainings, are not counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import ControlNetModel
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from records import write
from torch.nn import functional
from training_step import CPU, main_job, ready_batches

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.photo_set import PhotoSet
from portraitlab.diffusion.precisions import cast_once
from portraitlab.runs.run import Run
from portraitlab.support.precision import precision_of, quick_attention
from portraitlab.training.build import Parts, build_parts
from portraitlab.training.fitting import fit
from portraitlab.training.module import PortraitModule, step_generator
from portraitlab.types import Batch
from portraitlab.world.models.controlnet import CONFIG

ROUNDS, STEPS, WARM = 10, 30, 6


class TimedBatches(TrainingBatches):
    """Training batches that record the time of each request."""

    times: list[float]

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step, and record the time."""
        self.times.append(time.perf_counter())
        return super().__getitem__(step)


def product(config: DictConfig, parts: Parts, photos: PhotoSet) -> float:
    """Time a step of the main job, with its Trainer, progress bar, losses and checkpoints."""
    batches = TimedBatches(photos, config.refs, config.batch_size, STEPS, 0, config.prompt_dropout)
    batches.times = []
    config = OmegaConf.merge(config, {"budget": {"steps": STEPS}})
    with tempfile.TemporaryDirectory() as folder:
        fit(config, Run(Path(folder), "", ""), parts, batches)
    return (batches.times[-1] - batches.times[WARM]) / (STEPS - 1 - WARM)


def batches_of(config: DictConfig, photos: PhotoSet, steps: int) -> TrainingBatches:
    """Return the batches of a training of `steps`."""
    return TrainingBatches(photos, config.refs, config.batch_size, steps, 0, config.prompt_dropout)


def share_of_control_images(config: DictConfig, parts: Parts, photos: PhotoSet) -> float:
    """Time the encoding of a training's control images, as seconds for each step."""

    def distinct(batches: TrainingBatches) -> int:
        return len(torch.cat([batches.pairs(step) for step in range(len(batches))]).unique(dim=0))

    few, whole = batches_of(config, photos, STEPS), batches_of(config, photos, config.budget.steps)
    begun = time.perf_counter()
    ready_batches(config, parts, few)
    one = (time.perf_counter() - begun) / distinct(few)
    return one * distinct(whole) / len(whole)


def bare_loop(config: DictConfig, parts: Parts, photos: PhotoSet) -> float:
    """Time a step of the same modules, batches and optimiser in a plain loop."""
    ready = ready_batches(config, parts, batches_of(config, photos, STEPS))
    objective, precision = instantiate(config.objective), precision_of(config.trainer)
    parameters = parts.model.trained_parameters()
    optimiser = torch.optim.AdamW(parameters, 1e-6, fused=True)
    half = precision == "bf16-mixed"
    with cast_once(PortraitModule(parts.model, objective, learning_rate=0, steps=1), precision):
        for step, batch in enumerate(ready):
            if step == WARM:
                begun = time.perf_counter()
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half), quick_attention(CPU):
                generator = step_generator(0, step)
                loss = objective(parts.model, batch, generator, progress=0.0)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
        return (time.perf_counter() - begun) / (STEPS - WARM)


def recipe(config: DictConfig, parts: Parts, photos: PhotoSet, half: bool) -> float:
    """Time a step of diffusers' ControlNet example at the same sizes and batch."""
    # Build the models, the optimiser and its schedule.
    frozen = build_parts(config, CPU).model.backbone
    unet, autoencoder, text_encoder = frozen.unet, frozen.autoencoder, frozen.text_encoder
    torch.manual_seed(0)
    sizes = CONFIG | {"conditioning_embedding_out_channels": (16, 32, 96)}
    controlnet = ControlNetModel(**sizes)  # type: ignore[arg-type]
    if half:
        for module in (unet, autoencoder, text_encoder):
            module.to(torch.bfloat16)
    weights = next(unet.parameters()).dtype
    optimiser = torch.optim.AdamW(controlnet.parameters(), 1e-6)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0, 0)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        if step == WARM:
            begun = time.perf_counter()
        # Encode and noise a batch.
        rows = torch.randint(len(photos.store), (config.batch_size,), generator=generator)
        pixels, conditioning = photos.store.images(rows), photos.store.images(rows)
        tokens = frozen.tokenizer([photos.store.caption[int(row)] for row in rows])
        with torch.no_grad():
            latents = autoencoder.encode(pixels.to(weights)).latent_dist.sample()
            text = text_encoder(input_ids=tokens).last_hidden_state
        noise = torch.randn_like(latents)
        timesteps = torch.randint(frozen.timesteps, (len(rows),), generator=generator)
        noisy = frozen.scheduler.add_noise(latents.float(), noise.float(), timesteps).to(weights)
        # Predict, and step.
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            down, mid = controlnet(
                noisy, timesteps, text, controlnet_cond=conditioning.to(weights), return_dict=False
            )
            predicted = unet(
                noisy,
                timesteps,
                text,
                down_block_additional_residuals=[sample.to(weights) for sample in down],
                mid_block_additional_residual=mid.to(weights),
                return_dict=False,
            )[0]
        target = frozen.scheduler.get_velocity(latents, noise, timesteps)
        functional.mse_loss(predicted.float(), target.float()).backward()
        torch.nn.utils.clip_grad_norm_(controlnet.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    return (time.perf_counter() - begun) / (STEPS - WARM)


def main() -> None:
    """Time all ways in turns, so that other work on the machine affects them alike."""
    alike = ["scale.identity_loss.start_fraction=1.0"]
    config = main_job(*alike)
    parts = build_parts(config, CPU)
    photos = instantiate(config.data).train_photos(parts.frozen)
    plain = main_job(*alike, "fusion=none")
    plain_parts = build_parts(plain, CPU)
    ways: dict[str, Callable[[], float]] = {
        "diffusers' ControlNet recipe": lambda: recipe(config, parts, photos, half=False),
        "diffusers' ControlNet recipe, bfloat16": lambda: recipe(config, parts, photos, half=True),
        "a ControlNet without references (fusion=none)": lambda: (
            product(plain, plain_parts, photos)
            + share_of_control_images(plain, plain_parts, photos)
        ),
        "the main job": lambda: (
            product(config, parts, photos) + share_of_control_images(config, parts, photos)
        ),
        "a bare loop of the main job's modules": lambda: (
            bare_loop(config, parts, photos) + share_of_control_images(config, parts, photos)
        ),
    }
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    seconds = {name: min(times[name] for times in rounds) for name in ways}
    write("main_job", seconds, batch_size=config.batch_size)


if __name__ == "__main__":
    main()
