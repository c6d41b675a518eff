"""Distil the portraits' text-to-image UNet into one that draws in four steps without guidance.

python -m portraitlab.pretraining.student --minutes 40

This is progressive distillation (Salimans and Ho, ICLR 2022) from twelve guided steps to four in
one stage: each step of the student ends where three of the teacher's do. SDXL-Lightning (Lin et
al., 2024) is also distilled from the teacher's own path and published as low-rank weights. The loss
is that of consistency distillation (Song and Dhariwal, ICLR 2024): a Huber loss, because most
errors are small and a few paths diverge. The student is sampled by DDIM like any model, with
guidance 1.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.pretraining.faces import embed_faces
from portraitlab.pretraining.frechet import frechet, statistics
from portraitlab.pretraining.loop import Budget, budget_arguments, step_of, train
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.samples import beside, sample, save_sheet
from portraitlab.pretraining.ship import ship
from portraitlab.pretraining.window import Window
from portraitlab.types import Injection, TensorRecord, TextFeatures
from portraitlab.world.models.student import CONFIG, STEPS, add_low_rank
from portraitlab.world.pretrained import (
    load_backbone,
    load_clip,
    load_recogniser,
    load_regressor,
    read_weights,
)

GUIDANCE = 2.0
FINE = 3
"""Steps of the teacher per step of the student."""
PATHS, CHUNKS, EVERY = 16, 32, 8
"""Paths per chunk that the teacher draws, chunks in use, and steps between one chunk and the next.
Each point of a path is used about four times."""
BATCH = 32
HUBER = 0.1
"""Size of an error at which the Huber loss changes from squared to absolute."""
AVERAGE = 0.998


@dataclass(frozen=True)
class Paths(TensorRecord):
    """Points of the teacher's paths between the student's steps.

    latents [P, 5, 4, 16, 16]: latents from pure noise to an image. tokens [P, K]: prompts' tokens.
    """

    latents: Tensor
    tokens: Tensor


class Noise:
    """The student's noise levels, and the steps between them."""

    def __init__(self, backbone: Backbone, fine: int = FINE) -> None:
        scheduler = deepcopy(backbone.scheduler)
        scheduler.set_timesteps(fine * STEPS)
        self.timesteps: list[int] = scheduler.timesteps.tolist()
        share = scheduler.alphas_cumprod[self.timesteps]
        share = torch.cat([share, scheduler.final_alpha_cumprod.view(1)])
        self.signal, self.noise = share.sqrt(), (1 - share).sqrt()

    def factors(self, start: int | Tensor, end: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of latents and velocity at level number `start` in latents at `end`.

        It is DDIM's step with the velocity's estimates of image and noise (Salimans and Ho, App.
        D).
        """
        a, s, b, z = self.signal[start], self.noise[start], self.signal[end], self.noise[end]
        return a * b + s * z, a * z - s * b


@torch.no_grad()
def draw_paths(teacher: Backbone, tokens: Tensor, generator: torch.Generator) -> Paths:
    """Draw paths from prompts [P, K] by the guided teacher."""
    noise, device = Noise(teacher), teacher.latent_scale.device
    text, empty = (
        TextFeatures(teacher.text_encoder(input_ids=read.to(device)).last_hidden_state)
        for read in (tokens, teacher.tokenizer([""] * len(tokens)))
    )
    shape = (len(tokens), teacher.latent_channels, teacher.latent_size, teacher.latent_size)
    latents = torch.randn(shape, generator=generator).to(device)
    kept = [latents]
    for number, timestep in enumerate(noise.timesteps):
        level = torch.full((len(tokens),), timestep, device=device)
        by_text = teacher.predict(latents, level, text, Injection())
        free = teacher.predict(latents, level, empty, Injection())
        own, moved = noise.factors(number, number + 1)
        latents = own * latents + moved * (free + GUIDANCE * (by_text - free))
        if (number + 1) % FINE == 0:
            kept.append(latents)
    return Paths(torch.stack(kept, 1).cpu(), tokens)


class Student(nn.Module):
    """The UNet with low-rank weights, and its text encoder."""

    def __init__(self, teacher: Backbone) -> None:
        super().__init__()
        self.unet = deepcopy(teacher.unet)
        add_low_rank(self.unet)
        self.text_encoder = teacher.text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predict velocities [B, 4, 16, 16] of noisy latents at timesteps [B], by tokens [B, K]."""
        with torch.no_grad():
            text = self.text_encoder(input_ids=tokens).last_hidden_state
        return self.unet(noisy, timesteps, text).sample


class StudentLoss:
    """The loss of a step: velocities that connect points of the teacher's paths in one step."""

    def __init__(self, teacher: Backbone, paths: Window[Paths], budget: Budget) -> None:
        self.noise, self.paths, self.budget = Noise(teacher), paths, budget

    def __call__(self, model: Student, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the loss term of one batch."""
        paths = self.paths.at(step_of(generator, self.budget))
        chosen = paths[torch.randint(len(paths), (BATCH,), generator=generator)]
        step = torch.randint(STEPS, (BATCH,), generator=generator)
        start, end = (chosen.latents[torch.arange(BATCH), step + late] for late in (0, 1))
        own, moved = (
            f.view(-1, 1, 1, 1) for f in self.noise.factors(FINE * step, FINE * (step + 1))
        )
        target = (end - own * start) / moved
        timesteps = torch.tensor(self.noise.timesteps)[FINE * step]
        device = self.budget.device
        given = (start.to(device), timesteps.to(device), chosen.tokens.to(device))
        error = model(*given).float() - target.to(device)
        return {"velocity": ((error.square() + HUBER**2).sqrt() - HUBER).mean()}


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=40)
    photos = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)
    teacher = load_backbone().to(budget.device)
    # Use captions and descriptions equally, because the UNet follows both.
    prompts = teacher.tokenizer(photos.captions + photos.descriptions)

    def make(number: int) -> Paths:
        generator = torch.Generator().manual_seed(number)
        index = torch.randint(len(prompts), (PATHS,), generator=generator)
        return draw_paths(teacher, prompts[index], generator)

    def watch(model: Student) -> str:
        drawn = sample(drawing(model, teacher), check.captions[:80:8], 0, 1.0, STEPS)
        longer = sample(teacher, check.captions[:80:8], 0, GUIDANCE, FINE * STEPS)
        save_sheet(beside(drawn, longer), budget.work / "student.png")
        return f"sheet in {budget.work / 'student.png'}"

    student = Student(teacher)
    if budget.from_shipped:
        student.load_state_dict(read_weights("student"), strict=False)
    lesson = StudentLoss(teacher, Window(make, CHUNKS, EVERY, budget.device), budget)
    trained = train("student", student, lesson, budget, 1e-3, average=AVERAGE, watch=watch)
    record = trained.record | measure(trained.model, teacher, check, budget)
    ship("student", trained.model, CONFIG, record, script="student", only="lora_")


def drawing(model: Student, teacher: Backbone) -> Backbone:
    """Return the teacher's backbone with the student's UNet."""
    return Backbone(
        unet=model.unet, autoencoder=teacher.autoencoder, text_encoder=teacher.text_encoder,
        tokenizer=teacher.tokenizer, scheduler=teacher.scheduler,
        latent_scale=teacher.latent_scale.flatten().tolist(),
        latent_shift=teacher.latent_shift.flatten().tolist(),
    ).to(teacher.latent_scale.device)  # fmt: skip


@torch.no_grad()
def measure(
    model: Student, teacher: Backbone, check: TrainingPhotos, budget: Budget, count: int = 400
) -> dict[str, float]:
    """Compare the student's four steps with the teacher's ten and four, from the same noise.

    cosine: the judge's mean cosine to the teacher's images of 25 steps. fid: Fréchet distance to
    held-out renders.
    """
    clip, judge = load_clip().to(budget.device), load_recogniser("judge").to(budget.device)
    regressor = load_regressor().to(budget.device)
    model.to(budget.device)
    index = torch.arange(count) * (len(check) // count)
    prompts = [check.captions[i] for i in index.tolist()]
    real = statistics(clip, check.pixels(index + len(check) // count // 2).to(budget.device))

    def draw(backbone: Backbone, guidance: float, steps: int) -> Tensor:
        rounds = range(0, count, 50)
        parts = [sample(backbone, prompts[i : i + 50], 1000 + i, guidance, steps) for i in rounds]
        return torch.cat(parts)

    # Draw with the teacher and the student.
    longest = draw(teacher, GUIDANCE, 25)
    same = embed_faces(longest, regressor, judge)
    rows = {
        "student_4": draw(drawing(model, teacher), 1.0, STEPS),
        "teacher_10": draw(teacher, GUIDANCE, 10),
        "teacher_4": draw(teacher, GUIDANCE, STEPS),
    }
    save_sheet(
        torch.cat([longest[:10], *(images[:10] for images in rows.values())]),
        budget.work / "student.png",
    )
    # Compare with 25 steps of the teacher, and with renders.
    figures = {"fid_teacher_25": frechet(real, statistics(clip, longest))}
    for name, images in rows.items():
        cosine = (embed_faces(images, regressor, judge) * same).sum(-1).mean()
        figures[f"cosine_{name}"] = round(float(cosine), 3)
        figures[f"fid_{name}"] = frechet(real, statistics(clip, images))
    return figures


if __name__ == "__main__":
    main()
