"""One token per reference: the image encoder's class token."""

from __future__ import annotations

from torch import nn

from portraitlab.method.fusion.base import Fusion, flatten_references
from portraitlab.types import FaceFeatures, IdentityTokens


class ClassTokenFusion(Fusion):
    """Map the image encoder's class token of each reference to width d; T = 1.

    The image embedding of PhotoMaker (Li et al., 2024, Sec. 3.2): CLIP's, projected to the width of
    text features. The class token is the first of the local features; the others, and the
    recogniser's embedding, are unused.
    """

    def __init__(self, local_dim: int, global_dim: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(local_dim, dim)

    def forward(self, features: FaceFeatures) -> IdentityTokens:
        """Compute identity tokens [B, N, d]."""
        return flatten_references(self.projection(features.local_[:, :, :1]), features.mask)
