"""Train the detector of several faces.

python -m portraitlab.pretraining.detector --minutes 40
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou

from portraitlab.pretraining.canvases import load_canvases
from portraitlab.pretraining.crowds import (
    LEAST_FACE,
    LEAST_SHOWN,
    MOST_FACES,
    Crowd,
    portraits,
    tiled,
    without_faces,
)
from portraitlab.pretraining.loop import budget_arguments, train
from portraitlab.pretraining.photos import TrainingPhotos, load_checks, load_framings
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.models.detector import CONFIG, STRIDE, DetectedFaces, HeatMapDetector

SIZE = 128
CANVASES, TILINGS = 12, {1: 6, 2: 4, 4: 2}
"""Pictures per batch: larger canvases, and tilings of portraits by tiles per edge."""
EMPTY = 1 / 6
"""Share of the tiles whose face is removed."""
SPREAD = 0.15
"""Standard deviation of a face's heat, as a fraction of the width and height of its box."""
MEASURED = 16.0
"""Longer side, in pixels, of the smallest face that must be found."""


def targets(crowd: Crowd) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the detector's targets for a crowd, at S/4 cells per edge.

    Returns heat [B, h, w], 1 at the centres of faces; places [B, 7, 2, h, w] as the net predicts
    them, of the face with the greatest heat in a cell; weight [B, h, w] of the places, which sums
    to 1 for each face, divided by the face's width in cells; counted [B, h, w] bool: False on faces
    too small or too hidden to count as a face or as background.
    """
    cells = crowd.images.shape[-1] // STRIDE
    learned = (crowd.shown >= LEAST_SHOWN) & (crowd.sizes >= LEAST_FACE)
    points = torch.cat([crowd.boxes.unflatten(-1, (2, 2)), crowd.keypoints], 2) * cells
    low, high = points[:, :, 0, None, None], points[:, :, 1, None, None]
    along = torch.arange(cells) + 0.5
    grid = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1)  # [h, w, 2] as x, y

    # Every face is a Gaussian with its peak on a cell (Zhou et al., Sec. 3).
    top = ((low + high) / 2).floor() + 0.5
    away = (grid - top) / (SPREAD * (high - low)).clamp(min=1e-3)
    hills = torch.exp(-0.5 * away.square().sum(-1)) * learned[..., None, None]
    heat, nearest = hills.max(1)

    # Places are trained on the cells in which this face has the greatest heat.
    own = nearest[:, None] == torch.arange(hills.shape[1])[:, None, None]
    share = hills * own * (hills > 0.2)
    share = share / share.sum((2, 3), keepdim=True).clamp(min=1e-6)
    weight = (share / (high - low).amax(-1).clamp(min=1)).sum(1)
    of_nearest = points[torch.arange(len(points))[:, None, None], nearest]
    places = (of_nearest - grid[:, :, None]).permute(0, 3, 4, 1, 2)

    # Cells of a face that is not trained on count neither as a face nor as background.
    inside = ((grid >= low) & (grid <= high)).all(-1)
    uncounted = inside & ((crowd.shown > 0) & ~learned)[..., None, None]
    return heat, places, weight, ~uncounted.any(1) | (heat > 0.5)


def losses(
    detector: HeatMapDetector, crowd: Crowd, device: torch.device | str
) -> dict[str, Tensor]:
    """Compute the heat's focal loss (Zhou et al., eq. 1) and distances of places by face width."""
    heat, places, weight, counted = (part.to(device) for part in targets(crowd))
    logits, found = detector(crowd.images.to(device))
    logits, found = logits.float(), found.float()
    missed = functional.softplus(-logits) * torch.sigmoid(-logits).square()
    alarm = functional.softplus(logits) * torch.sigmoid(logits).square() * (1 - heat).pow(4)
    focal = torch.where(heat > 0.999, missed, alarm) * counted
    faces = (heat > 0.999).sum().clamp(min=1)
    distance = (found - places).abs().mean((1, 2))
    return {"heat": focal.sum() / faces, "places": 10 * (weight * distance).sum() / faces}


def tilings(photos: TrainingPhotos, edge: int, count: int, generator: torch.Generator) -> Crowd:
    """Draw `count` pictures of edge by edge portraits each, some of them without their face."""
    tiles = count * edge**2
    index = torch.randint(len(photos), (tiles,), generator=generator)
    empty = torch.rand(tiles, generator=generator) < EMPTY
    shown, gone = portraits(photos, index), without_faces(photos, index, generator)
    order = torch.where(empty, tiles, 0) + torch.arange(tiles)
    return tiled(Crowd.cat([shown, gone])[order], edge, SIZE).padded_to(MOST_FACES)


def softened(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change blur, noise and exposure of images, as those of sampled images differ."""
    count = (len(images), 1, 1, 1)
    soft = functional.interpolate(functional.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    images = torch.lerp(images, soft, torch.rand(count, generator=generator).square())
    gain = 1 + 0.1 * torch.randn(count, generator=generator)
    return (images * gain + 0.03 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=40)
    # Load portraits and canvases, and crowds to measure on.
    framings = {"portrait": 6, "varied": 3}
    photos = load_framings("foundation", 7000, framings, budget.cache, budget.workers)
    canvases = load_canvases("foundation", 3000, budget.cache, budget.workers)
    held_out = load_canvases("foundation_check", 400, budget.cache, budget.workers)
    checks = {f"_{kind}": crowd for kind, crowd in held_out.by_kind().items()}
    for ending, check in load_checks(framings, budget.cache, budget.workers).items():
        shown = portraits(check, torch.arange(0, len(check), 12))
        checks[ending or "_portrait"] = tiled(shown, 1, SIZE)
    torch.manual_seed(budget.seed)

    # Join canvases and tilings, and augment them.
    def loss(detector: HeatMapDetector, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(canvases), (CANVASES,), generator=generator)
        parts = [canvases.crowd(index).padded_to(MOST_FACES)]
        parts += [tilings(photos, edge, count, generator) for edge, count in TILINGS.items()]
        crowd = Crowd.cat(parts)
        turned = torch.randperm(len(crowd), generator=generator)
        half = len(crowd) // 2
        crowd = Crowd.cat([crowd[turned[:half]].mirrored(), crowd[turned[half:]]])
        crowd = Crowd(softened(crowd.images, generator), crowd.boxes, crowd.keypoints, crowd.shown)
        return losses(detector, crowd, budget.device)

    def measure(detector: HeatMapDetector) -> dict[str, float]:
        return {
            f"{name}{ending}": figure
            for ending, check in checks.items()
            for name, figure in accuracy(detector, check).items()
        }

    def watch(detector: HeatMapDetector) -> str:
        return str(accuracy(detector, checks["_group"][:50]))

    # Train, measure and ship.
    untrained = begin("detector", HeatMapDetector(), budget)
    trained = train("detector", untrained, loss, budget, 2e-3, average=0.998, watch=watch)
    record = trained.record | measure(trained.model)
    ship("detector", trained.model, CONFIG, record, script="detector")


def matches(found: DetectedFaces, boxes: Tensor, least: float = 0.5) -> Tensor:
    """Return the number of the box that each detected face matches [K], -1 for none.

    boxes [T, 4]; each is matched once. By falling score, a face takes the box that it overlaps
    most, with an IoU of `least` or more.
    """
    matched = torch.full((len(found),), -1)
    if not len(found) or not len(boxes):
        return matched
    overlap = box_iou(found.boxes, boxes)
    for number, row in enumerate(overlap):
        best = int(row.argmax())
        if row[best] >= least:
            matched[number] = best
            overlap[:, best] = 0
    return matched


@torch.no_grad()
def accuracy(detector: HeatMapDetector, crowd: Crowd) -> dict[str, float]:
    """Measure recall, precision and keypoint error of faces of MEASURED px and more.

    Smaller or too hidden faces count neither as missed nor as false detections. keypoint_error is
    in fractions of the face's longer side.
    """
    detector.cpu().eval()
    wanted = (crowd.shown >= LEAST_SHOWN) & (crowd.sizes >= MEASURED)
    faces = [found for part in crowd.images.split(50) for found in detector.find(part)]
    hits = misses = alarms = 0
    errors: list[Tensor] = []
    for number, found in enumerate(faces):
        there = crowd.shown[number] > 0
        own, keypoints = wanted[number][there], crowd.keypoints[number][there]
        matched = matches(found, crowd.boxes[number][there])
        right = matched[matched >= 0]
        hits += int(own[right].sum())
        misses += int(own.sum() - own[right].sum())
        alarms += int((matched < 0).sum())
        away = (found.keypoints[matched >= 0] - keypoints[right]).norm(dim=-1).mean(-1)
        extent = crowd.sizes[number][there][right] / crowd.images.shape[-1]
        errors.append((away / extent)[own[right]])
    return {
        "recall": round(hits / max(hits + misses, 1), 4),
        "precision": round(hits / max(hits + alarms, 1), 4),
        "keypoint_error": round(float(torch.cat(errors).mean()), 4),
    }


if __name__ == "__main__":
    main()
