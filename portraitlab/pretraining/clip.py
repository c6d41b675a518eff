"""Train one of the world's CLIP-like pairs of image and text encoders on descriptions.

`clip` conditions and trains, `judge_clip` only scores. They share no people and no weights.

python -m portraitlab.pretraining.clip --which judge_clip --minutes 30
"""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.faces.alignment import align
from portraitlab.faces.encoder.face_encoder import matted
from portraitlab.pretraining.loop import budget_arguments, take_which, train
from portraitlab.pretraining.photos import TrainingPhotos, load_checks, load_framings
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.models.clip import CONFIG, ClipEncoder

BATCH = 96
DATA: dict[str, tuple[str, int, dict[str, int]]] = {
    "clip": ("foundation", 7000, {"portrait": 6}),
    "judge_clip": ("judge", 5000, {"portrait": 6, "varied": 3}),
}
"""Split, people and photos of each by framing, on which each pair is trained."""


def looks_of(photos: TrainingPhotos, index: Tensor) -> list[str]:
    """Return the part of descriptions after the caption, of photos `index` [B].

    Clothes and background are enough to distinguish whole photos; to distinguish faces, a model has
    to learn skin, hair, eyes and beard.
    """
    return [
        "a person, " + photos.descriptions[i].removeprefix(photos.captions[i] + ", ")
        for i in index.tolist()
    ]


def _references(photos: TrainingPhotos, index: Tensor) -> Tensor:
    """Return matted, aligned faces [B, 3, 64, 64], as an encoder is given references."""
    person = matted(photos.pixels(index), photos.masks(index)[:, 0])
    return align(person, torch.from_numpy(photos.keypoints[index.numpy()]), 64)


def main() -> None:
    """Run the command."""
    which = take_which(tuple(DATA))
    split, people, framings = DATA[which]
    # Each model has its own seed, hence its own initialisation.
    budget = budget_arguments(__doc__.splitlines()[0], minutes=37, seed=list(DATA).index(which))
    photos = load_framings(split, people, framings, budget.cache, budget.workers)
    checks = load_checks(framings, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)

    def loss(model: ClipEncoder, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        # Pair matted faces, as references are, with looks alone; pair whole photos with looks,
        # caption or both, as web texts differ in detail.
        kind = int(torch.randint(6, (), generator=generator))
        images = _references(photos, index) if kind < 3 else photos.pixels(index)
        if kind < 4:
            texts = looks_of(photos, index)
        else:
            source = photos.captions if kind == 4 else photos.descriptions
            texts = [source[i] for i in index.tolist()]
        return {"contrast": model.contrastive_loss(images.to(budget.device), texts)}

    def measure(model: ClipEncoder) -> dict[str, float]:
        return {
            f"{name}retrieval_of_16{ending}": round(retrieval(model, check, looks), 3)
            for ending, check in checks.items()
            for name, looks in (("", False), ("looks_", True))
        }

    def watch(model: ClipEncoder) -> str:
        return ", ".join(f"{name} {share}" for name, share in measure(model).items())

    untrained = begin(which, ClipEncoder(), budget)
    trained = train(which, untrained, loss, budget, 1e-3, weight_decay=0.05, watch=watch)
    model = trained.model
    model.measure_patches(_references(photos, torch.arange(0, len(photos), len(photos) // 2000)))
    ship(which, model, CONFIG, trained.record | measure(model), script=f"clip --which {which}")


def one_photo_each(photos: TrainingPhotos, count: int) -> Tensor:
    """Return `count` photos [count]: the first of every person, then the second of every person, …

    So successive photos show different people, in runs of up to the number of people.
    """
    people = len(set(photos.identities.tolist()))
    number = torch.arange(count)
    return number % people * (len(photos) // people) + number // people


@torch.no_grad()
def retrieval(model: ClipEncoder, photos: TrainingPhotos, looks: bool, groups: int = 40) -> float:
    """Return the share of texts that rank their own image first among 16 of different people.

    looks: compare looks with matted faces in place of captions with whole photos.
    """
    model.eval()
    index = one_photo_each(photos, groups * 16)
    if looks:
        images, texts = _references(photos, index), looks_of(photos, index)
    else:
        images, texts = photos.pixels(index), [photos.captions[i] for i in index.tolist()]
    seen = model.image_embedding(images.to(model.model.device)).unflatten(0, (groups, 16))
    read = model.text_embedding(texts).unflatten(0, (groups, 16))
    return float(((read @ seen.mT).argmax(-1).cpu() == torch.arange(16)).float().mean())


if __name__ == "__main__":
    main()
