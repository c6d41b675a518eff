"""Train the world's CLIP-like image and text encoders on descriptions.

python -m portraitlab.world.train.clip --minutes 10
"""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.alignment import align
from portraitlab.encoder.face_encoder import matted
from portraitlab.world.models.clip import CONFIG, ClipEncoder
from portraitlab.world.train.loop import budget_arguments, train
from portraitlab.world.train.photos import TrainingPhotos, load_photos
from portraitlab.world.train.ship import ship

BATCH = 96


def _half_descriptions(
    photos: TrainingPhotos, index: Tensor, generator: torch.Generator
) -> list[str]:
    """Captions for some images and whole descriptions for others, as web texts differ in detail."""
    full = torch.rand(len(index), generator=generator) < 0.7
    return [
        photos.descriptions[i] if long else photos.captions[i]
        for i, long in zip(index.tolist(), full.tolist(), strict=True)
    ]


def _references(photos: TrainingPhotos, index: Tensor) -> Tensor:
    """Matted, aligned faces [B, 3, 64, 64], as an encoder is shown references."""
    person = matted(photos.pixels(index), photos.masks(index)[:, 0])
    return align(person, torch.from_numpy(photos.keypoints[index.numpy()]), 64)


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=10)
    photos = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)

    def loss(model: ClipEncoder, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        images = photos.pixels(index)
        texts = _half_descriptions(photos, index, generator)
        # every third batch shows matted face crops, as references are shown
        if torch.rand((), generator=generator) < 0.34:
            images = _references(photos, index)
            texts = [photos.descriptions[i] for i in index.tolist()]
        return {"contrast": model.contrastive_loss(images.to(budget.device), texts)}

    def watch(model: ClipEncoder) -> str:
        return f"own image first of 16: {retrieval(model, check):.3f}"

    trained = train("clip", ClipEncoder(), loss, budget, 1e-3, weight_decay=0.05, watch=watch)
    model = trained.model
    model.measure_patches(_references(photos, torch.arange(0, len(photos), len(photos) // 2000)))
    ship(
        "clip",
        model,
        CONFIG,
        trained.record | {"retrieval_of_16": round(retrieval(model, check), 3)},
        script="clip",
    )


@torch.no_grad()
def retrieval(model: ClipEncoder, photos: TrainingPhotos, groups: int = 40) -> float:
    """Share of captions that rank their own image first among 16 of different people."""
    model.cpu().eval()
    index = torch.arange(groups * 16) * (len(photos) // (groups * 16))
    images = model.image_embedding(photos.pixels(index)).unflatten(0, (groups, 16))
    texts = model.text_embedding([photos.captions[i] for i in index.tolist()]).unflatten(
        0, (groups, 16)
    )
    return float(((texts @ images.mT).argmax(-1) == torch.arange(16)).float().mean())


if __name__ == "__main__":
    main()
