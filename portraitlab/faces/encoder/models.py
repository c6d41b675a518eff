"""Protocols of the frozen models that encoders are built of."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from portraitlab.faces.alignment import Frame
from portraitlab.types import FaceGeometry


class PatchEncoder(Protocol):
    """An image encoder with patch tokens, such as CLIP's: L tokens of width d1 per image."""

    local_dim: int
    local_length: int
    crop_size: int
    frame: Frame

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Encode aligned crops [B, 3, c, c] in [-1, 1], c = crop_size, as tokens [B, L, d1]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all weights and buffers."""
        ...


class Recogniser(Protocol):
    """A face recogniser of aligned crops of c pixels, with unit embeddings of d2 numbers.

    title: its name in records.
    """

    title: str
    global_dim: int
    crop_size: int
    frame: Frame

    def __call__(self, crops: Tensor) -> Tensor:
        """Embed crops [B, 3, c, c] in [-1, 1] as [B, d2]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all weights and buffers."""
        ...


class Regressor(Protocol):
    """A model that finds the one face of an image and fits a 3DMM (as DECA and RetinaFace do)."""

    def __call__(self, images: Tensor) -> FaceGeometry:
        """Return geometry [B] with coefficients for images [B, 3, 64, 64] in [-1, 1]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all weights and buffers."""
        ...
