"""Train the self-supervised image encoder by self-distillation.

After Caron et al., ICCV 2021, Emerging Properties in Self-Supervised Vision Transformers.

python -m portraitlab.pretraining.dino --minutes 60
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from portraitlab.pretraining.loop import budget_arguments, train
from portraitlab.pretraining.photos import TrainingPhotos, load_checks, load_framings
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.models.dino import CONFIG, SelfSupervisedEncoder
from portraitlab.world.settings import PhotoSettings, make_settings
from portraitlab.world.splits import IDENTITIES

BATCH = 48
GLOBAL, LOCAL = (2, 64, (0.5, 1.0)), (4, 32, (0.12, 0.4))
"""Crops of an image: their number, size in pixels, and share of the image's area."""
PROTOTYPES, BOTTLENECK, WIDTH = 1024, 64, 256
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
CENTRE_MOMENTUM, TEACHER_MOMENTUM = 0.9, 0.993


class _Branch(nn.Module):
    """An encoder and its projection head (DINO, Sec. 3.1); only the encoder is shipped."""

    def __init__(self, encoder: SelfSupervisedEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Linear(encoder.dim, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(),
            nn.Linear(WIDTH, BOTTLENECK),
        )  # fmt: skip
        self.prototypes = weight_norm(nn.Linear(BOTTLENECK, PROTOTYPES, bias=False))
        lengths = self.prototypes.parametrizations.weight.original0
        nn.init.ones_(lengths)
        lengths.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Predict logits [B, PROTOTYPES]."""
        projected = self.head(self.encoder.class_token(images)).float()
        return self.prototypes(functional.normalize(projected, dim=-1)).float()


class SelfDistillation(nn.Module):
    """A student, its moving average as the teacher, and the centre of the teacher's outputs."""

    centre: Tensor

    def __init__(self, encoder: SelfSupervisedEncoder) -> None:
        super().__init__()
        self.student = _Branch(encoder)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(PROTOTYPES))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the student."""
        pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
        for own, new in pairs:
            own.lerp_(new, 1 - TEACHER_MOMENTUM)

    def loss(self, wide: list[Tensor], narrow: list[Tensor]) -> Tensor:
        """Compute the cross-entropy between the student's crops and the teacher's (DINO, eq. 3).

        wide and narrow: crops [B, 3, s, s] of the same B images; the teacher is given the wide ones
        alone, and no crop is compared with itself. Teacher outputs are centred and sharpened (Sec.
        3.1).
        """
        with torch.no_grad():
            taught = self.teacher(torch.cat(wide))
            wanted = torch.softmax((taught - self.centre) / TEACHER_TEMPERATURE, -1)
            self.centre.lerp_(taught.mean(0), 1 - CENTRE_MOMENTUM)
        given = [self.student(torch.cat(crops)) for crops in (wide, narrow)]
        guesses = [
            torch.log_softmax(part / STUDENT_TEMPERATURE, -1)
            for logits, crops in zip(given, (wide, narrow), strict=True)
            for part in logits.chunk(len(crops))
        ]
        terms = [
            -(target * guess).sum(-1).mean()
            for place, target in enumerate(wanted.chunk(len(wide)))
            for other, guess in enumerate(guesses)
            if other != place
        ]
        return torch.stack(terms).mean()


def crops(
    images: Tensor, size: int, area: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw random crops [B, 3, size, size], half of them mirrored, with colour jitter and blur.

    area: smallest and largest share of the image's area in a crop.
    """
    count = len(images)

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    # Crop a rectangle of random area and aspect.
    side, stretch = drawn(*area).sqrt(), drawn(-0.15, 0.15).exp()
    extent = torch.stack([side * stretch, side / stretch], -1).clamp(max=1)
    place = (1 - extent) * drawn(-1, 1, 2)
    mirrored = torch.where(drawn(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = extent[:, 0] * mirrored, extent[:, 1], place
    grid = functional.affine_grid(theta, [count, 3, size, size], align_corners=False)
    shown = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)

    # Change exposure, contrast, saturation and blur.
    grey = shown.mean(1, keepdim=True)
    shown = torch.lerp(grey.expand_as(shown), shown, drawn(0.6, 1.4, 1, 1, 1))
    level = shown.mean((1, 2, 3), keepdim=True)
    shown = level + (shown - level) * drawn(0.7, 1.3, 1, 1, 1) + drawn(-0.15, 0.15, 1, 1, 1)
    soft = functional.interpolate(functional.avg_pool2d(shown, 2), scale_factor=2, mode="bilinear")
    return torch.lerp(shown, soft, drawn(0, 1, 1, 1, 1).square()).clamp(-1, 1)


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=60)
    framings = {"portrait": 6, "varied": 3}
    photos = load_framings("foundation", 7000, framings, budget.cache, budget.workers)
    checks = load_checks(framings, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)

    # Update the teacher, and distil wide into wide and narrow crops.
    def loss(model: SelfDistillation, generator: torch.Generator) -> dict[str, Tensor]:
        model.follow()
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        images = photos.pixels(index)
        wide, narrow = (
            [crops(images, size, area, generator).to(budget.device) for _ in range(count)]
            for count, size, area in (GLOBAL, LOCAL)
        )
        return {"distillation": model.loss(wide, narrow)}

    def measure(model: SelfDistillation) -> dict[str, float]:
        figures: dict[str, float] = {}
        for framing, (ending, check) in zip(framings, checks.items(), strict=True):
            found = retrieval(model.teacher.encoder, check, framing)
            figures |= {f"{name}{ending}": figure for name, figure in found.items()}
        return figures

    def watch(model: SelfDistillation) -> str:
        return str(retrieval(model.teacher.encoder, checks[""], "portrait"))

    # Train, measure and ship.
    untrained = SelfDistillation(begin("dino", SelfSupervisedEncoder(), budget))
    trained = train("dino", untrained, loss, budget, 5e-4, weight_decay=0.04, watch=watch)
    record = trained.record | measure(trained.model)
    ship("dino", trained.model.teacher.encoder, CONFIG, record, script="dino")


LABELS: dict[str, Callable[[PhotoSettings], tuple[str, ...]]] = {
    "clothes": lambda photo: (photo.clothes, photo.clothes_colour),
    "background": lambda photo: (photo.background, photo.background_colour),
}
"""Attributes that photos of different people may share."""


@torch.no_grad()
def retrieval(
    encoder: SelfSupervisedEncoder, photos: TrainingPhotos, framing: str
) -> dict[str, float]:
    """Measure how often a photo's nearest other one has the same person, clothes or background.

    The nearest for clothes and background is searched among photos of other people. The share of a
    random photo is returned too. photos: photos of `foundation_check`, by `load_photos`.
    """
    # Compare all photos.
    encoder.cpu().eval()
    index = torch.arange(len(photos))
    embeddings = torch.cat([encoder(photos.pixels(part)) for part in index.split(200)])
    cosine = embeddings @ embeddings.T
    person = torch.from_numpy(photos.identities)
    itself = torch.eye(len(photos), dtype=torch.bool)
    same_person = person[:, None] == person

    def figures(name: str, alike: Tensor, excluded: Tensor) -> dict[str, float]:
        nearest = cosine.masked_fill(excluded, -torch.inf).argmax(1)
        hit = alike[index, nearest].float().mean()
        chance = (alike & ~excluded).sum() / (~excluded).sum()
        return {f"nearest_{name}": round(float(hit), 3), f"random_{name}": round(float(chance), 4)}

    # Count hits of the person, then of each label among other people's photos.
    found = figures("person", same_person, itself)
    each = int((person == person[0]).sum())
    people = len(photos) // each
    settings = [
        make_settings(seed, photo, framing)
        for seed in IDENTITIES["foundation_check"][:people]
        for photo in range(each)
    ]
    for name, label_of in LABELS.items():
        labels = [label_of(photo) for photo in settings]
        number = {label: place for place, label in enumerate(dict.fromkeys(labels))}
        worn = torch.tensor([number[label] for label in labels])
        found |= figures(name, worn[:, None] == worn, same_person)
    return found


if __name__ == "__main__":
    main()
