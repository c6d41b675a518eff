"""What encoders ask of the frozen models they are built of."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from portraitlab.faces.alignment import Frame
from portraitlab.types import FaceGeometry


class PatchEncoder(Protocol):
    """An image encoder with patch tokens, such as CLIP's: L tokens of width d1 an image."""

    local_dim: int
    local_length: int
    crop_size: int
    frame: Frame

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Tokens [B, L, d1] of aligned crops [B, 3, c, c] in [-1, 1], c = crop_size."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All weights and buffers."""
        ...


class Recogniser(Protocol):
    """A face recogniser on aligned crops of c pixels: embeddings of d2 numbers, unit length.

    title: how records name it.
    """

    title: str
    global_dim: int
    crop_size: int
    frame: Frame

    def __call__(self, crops: Tensor) -> Tensor:
        """Embeddings [B, d2] of crops [B, 3, c, c] in [-1, 1]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All weights and buffers."""
        ...


class Regressor(Protocol):
    """Finds the one face of an image and fits a 3DMM to it (plays DECA and RetinaFace)."""

    def __call__(self, images: Tensor) -> FaceGeometry:
        """Geometry [B] with coefficients of images [B, 3, 64, 64] in [-1, 1]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All weights and buffers."""
        ...
