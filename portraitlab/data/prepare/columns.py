"""Compute the columns of a shard from usable photos (portraitlab/data/schema.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.data.face_masks import draw_face_masks
from portraitlab.data.features import (
    Frozen,
    describe_faces,
    describe_identity,
    describe_pictures,
)
from portraitlab.data.photos import to_tensor
from portraitlab.data.prepare.planning import Plan
from portraitlab.data.schema import COLUMNS, columns_of, encoded
from portraitlab.types import FaceGeometry

Precision = Literal["float16", "float32"]


@dataclass(frozen=True)
class PortraitRow:
    """A usable photo: its row in the plan, UsablePortrait.columns and the face in the view [1]."""

    row: int
    pixels: Mapping[str, NDArray[Any]]
    face: FaceGeometry


def photo_columns(
    frozen: Frozen,
    plan: Plan,
    portraits: Sequence[PortraitRow],
    precision: Precision,
    threads: ThreadPoolExecutor,
) -> pa.RecordBatch:
    """Return all columns of a batch of photos; threads: compress the pictures."""
    rows = [one.row for one in portraits]
    known = {
        "identity": [plan.identity[row].as_py() for row in rows],
        "name": [plan.name[row].as_py() for row in rows],
        "digest": [plan.digest[row].as_py() for row in rows],
        "caption": [1 + int(plan.caption_number[row]) for row in rows],
        **columns_of([one.pixels for one in portraits]),
    }
    return encoded(known | in_precision(model_columns(frozen, portraits), precision), threads.map)


def model_columns(frozen: Frozen, portraits: Sequence[PortraitRow]) -> dict[str, Tensor]:
    """Compute the frozen models' columns [B, …] of a batch of photos, on the CPU."""
    pixels = {k: np.stack(v) for k, v in columns_of([one.pixels for one in portraits]).items()}
    images, views = (to_tensor(pixels.get(name, pixels["image"])) for name in ("image", "view"))
    masks = torch.from_numpy(pixels["person_mask"])
    device_views = views.to(frozen.device)
    geometry = frozen.encoder.fit(device_views, FaceGeometry.cat([one.face for one in portraits]))
    faces = describe_faces(frozen.encoder, device_views, masks.to(frozen.device), geometry)
    pictures = describe_pictures(images, masks, frozen)
    embedded = describe_identity(images, masks, faces["keypoints"], frozen)
    face_masks = draw_face_masks(frozen.encoder, geometry, masks)
    described = {**faces, **pictures, **embedded, "face_mask": face_masks}
    return {name: tensor.cpu() for name, tensor in described.items()}


def in_precision(columns: Mapping[str, Tensor], precision: Precision) -> dict[str, Any]:
    """Round the columns that may be stored in half precision.

    Raises ValueError if a number does not fit into it.
    """
    rounded = {}
    for name, values in columns.items():
        rounded[name] = values.to(getattr(torch, precision)) if COLUMNS[name].half else values.cpu()
        if not rounded[name].isfinite().all():
            raise ValueError(
                f"{name} has numbers that are not finite in {precision}; prepare into another "
                "folder with --precision=float32, or look for broken weights."
            )
    return rounded
