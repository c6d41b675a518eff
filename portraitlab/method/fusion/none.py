"""No identity tokens: the net reads the prompt where it would read the face."""

from __future__ import annotations

from portraitlab.method.fusion.base import Fusion
from portraitlab.types import FaceFeatures


class NoFusion(Fusion):
    """Gives no tokens and trains nothing."""

    gives_tokens = False

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()

    def forward(self, features: FaceFeatures) -> None:
        """None."""
        return None
