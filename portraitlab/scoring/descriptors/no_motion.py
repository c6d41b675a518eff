"""Places that do not move: a control that is exact for two views of one camera."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.method.matching import cell_centres
from portraitlab.method.model import PortraitModel
from portraitlab.scoring.matching import SampledPair


class NoMotion:
    """Cell centres as features, whose best matches are the cells' own places."""

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return (x, y, 1), whose cosine is 1 for the same cell alone."""
        size = model.backbone.latent_size
        centres = functional.pad(cell_centres(size, size, pair.style.device), (0, 1), value=1.0)
        own = centres.movedim(-1, 0).expand(len(pair), -1, -1, -1)
        return own, own
