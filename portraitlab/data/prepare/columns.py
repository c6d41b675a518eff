"""Build the columns of a shard from usable photos (docs/data.md)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from portraitlab.data.face_masks import draw_face_masks
from portraitlab.data.features import (
    Frozen,
    describe_faces,
    describe_identity,
    describe_pictures,
)
from portraitlab.data.prepare.plan import Plan
from portraitlab.data.prepare.shards import tensors
from portraitlab.data.store import to_tensor
from portraitlab.types import FaceGeometry

Precision = Literal["float16", "float32"]

HALF = ("latents", "person", "text", "pooled")
"""Columns stored in `precision`; `local` is always in half precision, all others in single."""

_KINDS = {
    "identity": pa.string(),
    "name": pa.string(),
    "digest": pa.binary(32),
    "caption": pa.int64(),
    "image": pa.large_binary(),
    "view": pa.large_binary(),
    "person_mask": pa.large_binary(),
}


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
    described = {**faces, **pictures, "recogniser": embedded["identity"], "face_mask": face_masks}
    return {name: tensor.cpu() for name, tensor in described.items()}


def known_columns(
    plan: Plan, portraits: Sequence[PortraitRow], threads: ThreadPoolExecutor
) -> dict[str, list[Any]]:
    """Return the columns of a batch that need no model; threads: compress the pictures."""
    rows = [one.row for one in portraits]
    return {
        "identity": [plan.identity[row].as_py() for row in rows],
        "name": [plan.name[row].as_py() for row in rows],
        "digest": [plan.digest[row].as_py() for row in rows],
        "caption": [1 + int(plan.caption_number[row]) for row in rows],
        "image": list(threads.map(_png, (one.image for one in portraits))),
        "view": list(threads.map(_png, (one.view for one in portraits))),
        "person_mask": list(threads.map(_png, (one.mask for one in portraits))),
    }


def plain_columns(batches: Sequence[Mapping[str, list[Any]]]) -> dict[str, pa.Array]:
    """Join the columns of `known_columns` over all batches of a shard."""
    return {
        name: pa.array([value for batch in batches for value in batch[name]], kind)
        for name, kind in _KINDS.items()
    }


def tensor_columns(
    batches: Sequence[Mapping[str, Tensor]], precision: Precision
) -> dict[str, pa.Array]:
    """Join the tensors of all batches of a shard to columns; no batches give no columns.

    precision: of the columns in HALF. Raises ValueError if a number does not fit into it.
    """
    columns = {}
    for name in batches[0] if batches else ():
        values = torch.cat([batch[name].cpu() for batch in batches]).numpy()
        if values.dtype == bool:
            columns[name] = pa.array(map(_png, values), pa.large_binary())
            continue
        if name in HALF:
            with np.errstate(over="ignore"):
                values = values.astype(precision)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name} has numbers that are not finite in {values.dtype}; prepare into "
                "another folder with --precision=float32, or look for broken weights."
            )
        columns[name] = tensors(values)
    return columns


def _png(pixels: NDArray[Any] | None) -> bytes | None:
    """Encode a picture uint8 [S, S, 3] or mask bool [S, S] without loss; None stays None."""
    if pixels is None:
        return None
    file = io.BytesIO()
    # The fastest level: higher ones take several times as long to save a few percent.
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    return file.getvalue()
