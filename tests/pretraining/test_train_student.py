"""The student that draws in four steps: what it is taught, and what is shipped of it."""

from functools import partial
from pathlib import Path

import pytest
import torch

from portraitlab.diffusion.backbone import Backbone
from portraitlab.pretraining import ship, student
from portraitlab.pretraining.loop import Budget
from portraitlab.pretraining.photos import load_photos
from portraitlab.pretraining.samples import sample
from portraitlab.pretraining.student import (
    FINE,
    GUIDANCE,
    Noise,
    Student,
    StudentLoss,
    draw_paths,
    drawing,
    measure,
)
from portraitlab.pretraining.window import Window
from portraitlab.world import pretrained as foundation
from portraitlab.world.models.student import CONFIG, STEPS
from portraitlab.world.pretrained import load_backbone, load_student

PROMPTS = ["a photo of a person in a red dress, a blue plain background, soft light", ""]


@pytest.fixture(scope="module")
def teacher() -> Backbone:
    return load_backbone()


@pytest.fixture(scope="module")
def paths(teacher: Backbone) -> student.Paths:
    return draw_paths(teacher, teacher.tokenizer(PROMPTS), torch.Generator().manual_seed(5))


def test_a_path_is_the_teacher_s_own(teacher: Backbone, paths: student.Paths) -> None:
    assert paths.latents.shape == (2, STEPS + 1, 4, 16, 16)
    drawn = sample(teacher, PROMPTS, seed=5, guidance=GUIDANCE, steps=FINE * STEPS)
    decoded = teacher.decode(paths.latents[:, -1]).clamp(-1, 1)
    # The sampler's levels are rounded by up to one.
    assert (drawn - decoded).abs().mean() < 0.02


def test_a_student_that_learnt_its_targets_lands_where_the_teacher_does(
    teacher: Backbone, paths: student.Paths
) -> None:
    noise = Noise(teacher)
    levels = noise.timesteps[::FINE]
    scheduler = foundation.load_backbone().scheduler
    scheduler.set_timesteps(STEPS)
    assert scheduler.timesteps.tolist() == levels  # what DDIM asks for in four steps
    latents = paths.latents[:, 0]
    for number, level in enumerate(levels):
        own, moved = noise.factors(FINE * number, FINE * (number + 1))
        target = (paths.latents[:, number + 1] - own * paths.latents[:, number]) / moved
        latents = scheduler.step(target, level, latents).prev_sample
        torch.testing.assert_close(latents, paths.latents[:, number + 1], atol=1e-3, rtol=1e-3)


def test_only_low_rank_weights_learn_and_they_do(
    teacher: Backbone, paths: student.Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "BATCH", 4)
    torch.manual_seed(0)
    model = Student(teacher)
    lesson = StudentLoss(teacher, Window(lambda _: paths, 1, 100), Budget(1, Path(), Path()))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert sum(p.numel() for p in trained.values()) * 2 < 2.5 * 2**20  # in fp16
    optimiser = torch.optim.Adam(trained.values(), lr=1e-3)
    losses = []
    for _ in range(8):
        (loss,) = lesson(model, torch.Generator().manual_seed(1)).values()
        optimiser.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None for p in trained.values())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_what_is_shipped_draws_as_the_student_does(
    teacher: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Student(teacher)
    begun = sample(drawing(model, teacher), PROMPTS, 0, 1.0, STEPS)
    torch.testing.assert_close(begun, sample(teacher, PROMPTS, 0, 1.0, STEPS))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
            parameter.data = parameter.data.half().float()
        elif "lora_A" in name:
            parameter.data = parameter.data.half().float()
    for name in ("foundation.json", "text_to_image.safetensors", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((foundation.WEIGHTS / name).read_bytes())
    monkeypatch.setattr(ship, "WEIGHTS", tmp_path)
    ship.ship("student", model, CONFIG, {"minutes": 1.0}, script="student", only="lora_")
    assert (tmp_path / "student.safetensors").stat().st_size < 2.5 * 2**20
    own = sample(drawing(model, teacher), PROMPTS, 0, 1.0, STEPS)
    assert not torch.allclose(own, begun, atol=0.05)
    drawn = load_backbone(tmp_path).with_unet(load_student(tmp_path))
    torch.testing.assert_close(sample(drawn, PROMPTS, 0, 1.0, STEPS), own, atol=1e-3, rtol=1e-3)


def test_it_is_measured_beside_its_teacher(
    teacher: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "sample", partial(few_steps, student.sample))
    check = load_photos("foundation_check", identities=10, photos=2, cache=tmp_path, workers=1)
    budget = Budget(1, tmp_path, tmp_path, workers=1)
    figures = measure(Student(teacher), teacher, check, budget, count=10)
    assert figures["cosine_teacher_10"] > figures["cosine_student_4"]
    assert (tmp_path / "student.png").is_file()


def few_steps(draw, backbone, prompts, seed, guidance, steps):
    """Sample with at most ten steps, as a test has no time for more."""
    return draw(backbone, prompts, seed, guidance, min(steps, 10))
