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
from portraitlab.data.prepare.plan import Plan
from portraitlab.data.schema import COLUMNS, encoded
from portraitlab.types import FaceGeometry

Precision = Literal["float16", "float32"]


@dataclass(frozen=True)
class PortraitRow:
    """A usable photo: its row in the plan, its pixels at both sizes and the face in `view` [1].

    view: None if both sizes are the same.
    """

    row: int
    image: NDArray[np.uint8]
    view: NDArray[np.uint8] | None
    mask: NDArray[np.bool_]
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
        "image": [one.image for one in portraits],
        "view": [one.view for one in portraits],
        "person_mask": [one.mask for one in portraits],
    }
    if portraits[0].view is None:
        del known["view"]
    return encoded(known | in_precision(model_columns(frozen, portraits), precision), threads.map)


def model_columns(frozen: Frozen, portraits: Sequence[PortraitRow]) -> dict[str, Tensor]:
    """Compute the frozen models' columns [B, …] of a batch of photos, on the CPU."""
    images = to_tensor(np.stack([one.image for one in portraits]))
    views = to_tensor(np.stack([one.image if one.view is None else one.view for one in portraits]))
    masks = torch.from_numpy(np.stack([one.mask for one in portraits]))
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
