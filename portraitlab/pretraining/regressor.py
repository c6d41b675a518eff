"""Train one of the world's regressors of shape, expression, pose and face score.

`regressor` conditions and trains, on portraits. `judge_regressor` only scores; it shares no people
and no weights with the other, and accepts heads from .25 to .50 of the width.

python -m portraitlab.pretraining.regressor --which judge_regressor --minutes 30
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.pretraining.loop import budget_arguments, take_which, train
from portraitlab.pretraining.photos import TrainingPhotos, load_checks, load_framings
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.models.regressor import CONFIG, FRAMINGS, FaceRegressor
from portraitlab.world.pretrained import load_face_model

BATCH = 64
DATA: dict[str, tuple[str, int, dict[str, int]]] = {
    "regressor": ("foundation", 7000, {"portrait": 6}),
    "judge_regressor": ("judge", 5000, {"portrait": 6, "varied": 3}),
}
"""Split, people and photos of each by framing, on which each regressor is trained."""


def faceless(images: Tensor, masks: Tensor, generator: torch.Generator, tile: int = 16) -> Tensor:
    """Make images without an acceptable face: blurred away, shuffled, noise, background alone.

    tile: edge in pixels of the shuffled squares; smaller than the smallest face.
    """
    coarse = functional.interpolate(
        functional.interpolate(images, size=5, mode="area"), size=64, mode="bilinear"
    )
    tiles = images.unfold(2, tile, tile).unfold(3, tile, tile).flatten(2, 3)
    edge = images.shape[-1] // tile
    order = torch.randperm(edge * edge, generator=generator)
    shuffled = tiles[:, :, order].unflatten(2, (edge, edge))
    shuffled = shuffled.permute(0, 1, 2, 4, 3, 5).reshape(images.shape)
    noise = coarse + 0.5 * torch.randn(images.shape, generator=generator)
    fill = (images * (1 - masks)).sum((2, 3), keepdim=True) / (1 - masks).sum(
        (2, 3), keepdim=True
    ).clamp(min=1)
    empty = images * (1 - masks) + fill * masks
    skin = (
        images * (1 - masks)
        + functional.interpolate(
            functional.interpolate(images, size=3, mode="area"), size=64, mode="bilinear"
        )
        * masks
    )
    kinds = torch.stack([coarse, shuffled, noise, empty, skin, images.flip(2)])
    pick = torch.randint(len(kinds), (len(images),), generator=generator)
    return kinds[pick, torch.arange(len(images))]


def _softened(images: Tensor, generator: torch.Generator) -> Tensor:
    """Add slight blur and noise, as in images of the autoencoder and the sampler."""
    soft = functional.interpolate(
        functional.interpolate(images, size=32, mode="area"), size=64, mode="bilinear"
    )
    blend = torch.rand(len(images), 1, 1, 1, generator=generator)
    return torch.lerp(images, soft, blend) + 0.04 * torch.randn(images.shape, generator=generator)


def main() -> None:
    """Run the command."""
    which = take_which(tuple(DATA))
    split, people, framings = DATA[which]
    # Each model has its own seed, hence its own initialisation.
    budget = budget_arguments(__doc__.splitlines()[0], minutes=52, seed=list(DATA).index(which))
    photos = load_framings(split, people, framings, budget.cache, budget.workers)
    checks = load_checks(framings, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)

    # A tile of 16 px could contain most of a head of .25.
    tile = 16 if FRAMINGS[which] == "portrait" else 8

    def loss(model: FaceRegressor, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        images, truth = photos.pixels(index), photos.coefficients(index).to(budget.device)
        few = index[: BATCH // 3]
        negatives = faceless(photos.pixels(few), photos.masks(few), generator, tile)
        shown = torch.cat([_softened(images, generator), negatives]).to(budget.device)
        estimate, logit = model.estimate(shown)
        estimate = estimate[:BATCH]
        points = model.face_model.points(estimate) - model.face_model.points(truth)
        own = torch.arange(len(shown), device=logit.device) < BATCH
        return {
            "points": 40 * points.abs().mean(),
            "shape": functional.mse_loss(estimate.shape.float(), truth.shape),
            "expression": 2 * functional.mse_loss(estimate.expression.float(), truth.expression),
            "pose": 0.3 * ((estimate.pose - truth.pose) / model.pose_scale).square().mean(),
            "score": 0.2 * functional.binary_cross_entropy_with_logits(logit.float(), own.float()),
        }

    def measure(model: FaceRegressor, every: int = 2) -> dict[str, float]:
        return {
            f"{name}{ending}": figure
            for ending, check in checks.items()
            for name, figure in accuracy(model, check, tile, every).items()
        }

    def watch(model: FaceRegressor) -> str:
        return str(measure(model, every=8))

    made = FaceRegressor(load_face_model(), framing=FRAMINGS[which])
    trained = train(which, begin(which, made, budget), loss, budget, 1.5e-3, watch=watch)
    ship(
        which,
        trained.model,
        CONFIG,
        trained.record | measure(trained.model),
        script=f"regressor --which {which}",
    )


@torch.no_grad()
def accuracy(
    model: FaceRegressor, photos: TrainingPhotos, tile: int = 16, every: int = 2
) -> dict[str, float]:
    """Measure landmark error in pixels of a 64 px photo, RMSE of the rest, and accepted shares.

    tile: see faceless. every: use every such photo.
    """
    model.cpu().eval()
    index = torch.arange(0, len(photos), every)
    truth, images = photos.coefficients(index), photos.pixels(index)
    estimate, logit = model.estimate(images)
    pixels = (model.face_model.landmarks(estimate) - model.face_model.landmarks(truth)).norm(
        dim=-1
    ) * 64
    angles = (estimate.pose[:, :3] - truth.pose[:, :3]).square().mean().sqrt().rad2deg()
    negatives = faceless(images, photos.masks(index), torch.Generator().manual_seed(0), tile)
    return {
        "landmark_error_px": round(float(pixels.mean()), 3),
        "shape_rmse": round(float((estimate.shape - truth.shape).square().mean().sqrt()), 3),
        "expression_rmse": round(
            float((estimate.expression - truth.expression).square().mean().sqrt()), 3
        ),
        "pose_rmse_degrees": round(float(angles), 2),
        "faces_accepted": round(float((logit > 0).float().mean()), 4),
        "non_faces_accepted": round(float((model.estimate(negatives)[1] > 0).float().mean()), 4),
    }


if __name__ == "__main__":
    main()
