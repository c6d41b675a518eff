"""No identity tokens: the net reads the prompt instead."""

from __future__ import annotations

from portraitlab.method.fusion.base import Fusion
from portraitlab.types import FaceFeatures


class NoFusion(Fusion):
    """A fusion without tokens and parameters."""

    gives_tokens = False

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()

    def forward(self, features: FaceFeatures) -> None:
        """Return None."""
        return None
