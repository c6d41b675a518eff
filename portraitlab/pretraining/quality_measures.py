"""Compare simple measures of photo quality with the quality model.

    python -m portraitlab.pretraining.quality_measures

Writes the areas under the curve to experiments/face_quality.json and to docs/selection.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.faces.alignment import align
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.quality import CHECK, separation
from portraitlab.support.files import read_json, write_json
from portraitlab.support.paths import DOCS, EXPERIMENTS
from portraitlab.support.table import Table
from portraitlab.tables.document import write_part
from portraitlab.world.pretrained import load_quality, load_recogniser, load_regressor

RECORD = EXPERIMENTS / "face_quality.json"
DOCUMENT = DOCS / "selection.md"
PERTURBED = 4


@torch.no_grad()
def measures(photos: TrainingPhotos) -> dict[str, Tensor]:
    """Score photos [P] by several measures; a higher score means a better photo.

    Keypoints are the regressor's. perturbed: mean cosine between embeddings of shifted, noisy crops
    and their mean (similar to SER-FIQ, Terhörst et al., CVPR 2020). others: mean cosine with the
    person's other photos (the target of SDD-FIQA without its comparison with strangers).
    """
    regressor, recogniser, model = load_regressor(), load_recogniser("recogniser"), load_quality()
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {}
    embeddings = []
    for index in torch.arange(len(photos)).split(200):
        # Align the faces, and embed them.
        images = photos.pixels(index)
        points = regressor(images).keypoints
        crops = align(images, points, model.crop_size)
        raw = recogniser.head(
            recogniser.trunk(functional.interpolate(crops, 64, mode="bilinear")).last_hidden_state
        )
        embeddings.append(functional.normalize(raw, dim=-1))
        # Embed shifted, noisy crops.
        moved = [
            recogniser(
                align(images, _noised(points, 0.012, generator), model.crop_size)
                + _noised(torch.zeros_like(crops), 0.05, generator)
            )
            for _ in range(PERTURBED)
        ]
        towards = functional.normalize(sum(moved), dim=-1)
        # Score by every measure.
        seen = {
            "the regressor's face score": regressor.estimate(images)[1],
            "sharpness (energy of the Laplacian)": _laplacian(crops).square().mean((1, 2)),
            "norm of the recogniser's embedding": raw.norm(dim=-1),
            "agreement of perturbed crops": torch.stack(
                [(m * towards).sum(-1) for m in moved]
            ).mean(0),
            "the model": model(crops),
        }
        for name, scores in seen.items():
            found.setdefault(name, []).append(scores)
    scores = {name: torch.cat(parts) for name, parts in found.items()}
    scores["agreement with other photos"] = _agreement(torch.cat(embeddings), photos)
    return scores


def _noised(points: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    return points + deviation * torch.randn(points.shape, generator=generator)


def _laplacian(crops: Tensor) -> Tensor:
    grey = crops.mean(1)
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return around - 4 * grey[:, 1:-1, 1:-1]


def _agreement(embeddings: Tensor, photos: TrainingPhotos) -> Tensor:
    identity = torch.from_numpy(photos.identities)
    others = (identity[:, None] == identity) & ~torch.eye(len(identity), dtype=torch.bool)
    return (embeddings @ embeddings.T * others).sum(1) / others.sum(1)


def measures_table(record: Mapping[str, Mapping[str, float]]) -> str:
    """Format a Markdown table with a row per measure and a column per kind of flaw."""
    kinds = [name for name in next(iter(record.values())) if name.startswith("auc_")]
    rows = [[name, *(f"{found[kind]:.3f}" for kind in kinds)] for name, found in record.items()]
    return Table(["", *(kind.removeprefix("auc_") for kind in kinds)], rows).markdown()


def main() -> None:
    """Run the command."""
    photos = load_photos(*CHECK, Path(".cache/portraitlab"), workers=2)
    record = {name: separation(scores, *CHECK) for name, scores in measures(photos).items()}
    last = record.pop("the model")
    write_json(RECORD, record | {"the model": last})
    write_part(DOCUMENT, "measures", measures_table(read_json(RECORD) or {}))


if __name__ == "__main__":
    main()
