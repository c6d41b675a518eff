"""The columns of photos, the same for rendered, folder and prepared ones, and how they are encoded.

S is the backbone's size in pixels and V the encoder's; c, h and w are those of the latents, L, d1
and d2 the encoder's widths, d2' that of the recogniser of the identity loss, S' and E' the numbers
of coefficients of a 3DMM. Points and boxes are fractions of the photo.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

Kind = Literal["text", "bytes", "number", "flag", "picture", "mask", "tensor"]


class Column(NamedTuple):
    """One column.

    kind: pictures and masks are PNGs, tensors of the canonical Arrow type. shape: of one row.
    optional: photos of some sources have none. half: tensors that may be stored in half precision.
    """

    kind: Kind
    shape: str
    about: str
    optional: bool = False
    half: bool = False


PHOTOS = {
    "identity": Column("text", "", "the identity's name"),
    "name": Column("text", "", "the photo's name, unique within its identity"),
    "digest": Column("bytes", "", "sha256 of the file", optional=True),
    "caption": Column("number", "", "row in the captions"),
    "flawed": Column("flag", "", "blurred, badly lit or covered: never a target", optional=True),
    "image": Column("picture", "S, S, 3", "the portrait"),
    "view": Column("picture", "V, V, 3", "the same at the encoder's size", optional=True),
    "person_mask": Column("mask", "S, S", "the person, where it is known"),
    "face_mask": Column("mask", "S, S", "the face"),
    "view_mask": Column("mask", "V, V", "the person in a view that is a close-up", optional=True),
    "scene": Column("text", "", "name of a picture of several people, or empty", optional=True),
    "scene_keypoints": Column(
        "tensor", "5, 2", "(x, y) in the portrait, where the view is a close-up", optional=True
    ),
    "face_box": Column("tensor", "4", "left, top, right, bottom of the landmarks", optional=True),
    "joints": Column("tensor", "18, 2", "OpenPose's joints of the body", optional=True),
    "visible": Column("tensor", "18", "1 for joints that are in the frame, else 0", optional=True),
    "true_shape": Column("tensor", "S'", "coefficients of the renderer", optional=True),
    "true_expression": Column("tensor", "E'", "the same", optional=True),
    "true_pose": Column("tensor", "6", "the same", optional=True),
    "keypoints": Column("tensor", "5, 2", "(x, y) that the encoder found"),
    "score": Column("tensor", "", "the detector's score, 0 to 1"),
    "shape": Column("tensor", "S'", "fitted coefficients, about unit variance", optional=True),
    "expression": Column("tensor", "E'", "the same", optional=True),
    "pose": Column("tensor", "6", "yaw, pitch, roll in radians; scale and place", optional=True),
    "local": Column("tensor", "L, d1", "patch tokens of the aligned face, in half precision"),
    "global": Column("tensor", "d2", "the encoder's embedding, unit length"),
    "recogniser": Column("tensor", "d2'", "the embedding of the identity loss, unit length"),
    "latents": Column("tensor", "c, h, w", "of the portrait, scaled", half=True),
    "person": Column("tensor", "1, h, w", "share of a latent cell in the person", half=True),
}
"""Columns of photos. Prepared shards have all in one file; caches have a file for each model.

portraitlab.data.shards adds a column of sums to each file.
"""

CAPTIONS = {
    "text": Column("tensor", "K, dt", "text tokens for cross-attention", half=True),
    "pooled": Column("tensor", "p", "SDXL's summary", optional=True, half=True),
    "sizes": Column("tensor", "6", "SDXL's sizes, in pixels", optional=True),
}
"""Columns of distinct captions, beside their text in `caption`; row 0 is the empty prompt."""

COLUMNS = PHOTOS | CAPTIONS

_TYPES = {"text": pa.string(), "bytes": pa.binary(32), "number": pa.int64(), "flag": pa.bool_()}


def encoded(
    columns: Mapping[str, Any], apply: Callable[..., Iterable[Any]] = map
) -> pa.RecordBatch:
    """Encode columns of photos, or of captions' features, as the schema says.

    Values are strings, numbers, arrays or tensors on the CPU; pictures are uint8 [S, S, 3], masks
    bool [S, S]. apply: a `map`, such as one over threads, which compresses the pictures.
    """
    arrays = {}
    for name, values in columns.items():
        kind = COLUMNS[name].kind
        if kind in ("picture", "mask"):
            arrays[name] = pa.array(list(apply(_png, values)), pa.large_binary())
        elif kind == "tensor":
            arrays[name] = _tensors(np.asarray(values))
        else:
            arrays[name] = pa.array(values, _TYPES[kind])
    return pa.RecordBatch.from_pydict(arrays)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows of the same names into columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _tensors(values: NDArray[Any]) -> pa.Array:
    """Convert numbers [n, …] to fixed-shape tensors, or plain numbers if each row has one."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


def _png(pixels: Any) -> bytes:
    """Encode a picture uint8 [S, S, 3] or mask bool [S, S] without loss."""
    file = io.BytesIO()
    # The fastest level: higher ones take several times as long to save a few percent.
    Image.fromarray(np.asarray(pixels)).save(file, "png", compress_level=1)
    return file.getvalue()


def pixels_of(png: bytes) -> NDArray[Any]:
    """Decode a picture or mask of `encoded`."""
    with Image.open(io.BytesIO(png)) as file:
        return np.asarray(file)
