"""Train the regressor of shape, expression, pose and face score.

python -m portraitlab.pretraining.regressor --minutes 52
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.pretraining.loop import budget_arguments, train
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.models.regressor import CONFIG, FaceRegressor
from portraitlab.world.pretrained import load_face_model

BATCH = 64


def faceless(images: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """Images without a face to accept: blurred away, shuffled, noise, background alone."""
    coarse = functional.interpolate(
        functional.interpolate(images, size=5, mode="area"), size=64, mode="bilinear"
    )
    tiles = images.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)
    shuffled = tiles[:, :, torch.randperm(16, generator=generator)].unflatten(2, (4, 4))
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
    """A little blur and noise: faces all the same, as the autoencoder and the sampler give them."""
    soft = functional.interpolate(
        functional.interpolate(images, size=32, mode="area"), size=64, mode="bilinear"
    )
    blend = torch.rand(len(images), 1, 1, 1, generator=generator)
    return torch.lerp(images, soft, blend) + 0.04 * torch.randn(images.shape, generator=generator)


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=52)
    photos = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)

    def loss(model: FaceRegressor, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        images, truth = photos.pixels(index), photos.coefficients(index).to(budget.device)
        negatives = faceless(images[: BATCH // 3], photos.masks(index[: BATCH // 3]), generator)
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

    def watch(model: FaceRegressor) -> str:
        return str(accuracy(model, check))

    untrained = begin("regressor", FaceRegressor(load_face_model()), budget)
    trained = train("regressor", untrained, loss, budget, 1.5e-3, watch=watch)
    model = trained.model
    record = trained.record | accuracy(model, check)
    ship("regressor", model, CONFIG, record, script="regressor")


@torch.no_grad()
def accuracy(model: FaceRegressor, photos: TrainingPhotos) -> dict[str, float]:
    """Landmark error in pixels of a 64 px photo, RMSE of the rest, and what the score accepts."""
    model.cpu().eval()
    index = torch.arange(0, len(photos), 2)
    truth, images = photos.coefficients(index), photos.pixels(index)
    estimate, logit = model.estimate(images)
    pixels = (model.face_model.landmarks(estimate) - model.face_model.landmarks(truth)).norm(
        dim=-1
    ) * 64
    angles = (estimate.pose[:, :3] - truth.pose[:, :3]).square().mean().sqrt().rad2deg()
    negatives = faceless(images, photos.masks(index), torch.Generator().manual_seed(0))
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
