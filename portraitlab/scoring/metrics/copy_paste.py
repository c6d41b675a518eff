"""Copy-paste: does a portrait show the reference photo, in place of the person?

After the copy-paste metric of MultiID-Bench (WithAnyone, Xu et al., 2025, arXiv 2510.14975).
"""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, similarity_to_references
from portraitlab.types import Judged


class CopyPaste(MeanMetric):
    """How much nearer a portrait is to a photo conditioned on than to another of the person.

    By angles between the judging recogniser's embeddings, (a - b) / c: a to the nearest of the
    photos that judge, b to the nearest of those conditioned on, as many of either, and c between
    that reference and the nearest judge. 1 is a copy of a reference, 0 a portrait as near to unseen
    photos, -1 a copy of an unseen one. The paper has the target in place of unseen photos, which
    here may be a stranger's. Only of portraits that look like the person.

    floor: of the mean cosine to the photos that judge, below which a portrait is left out.
    """

    higher_is_better = False
    method = "angles of {recogniser}'s embeddings, nearest reference to nearest unseen photo"
    missed = "left out"

    def __init__(self, floor: float = 0.3) -> None:
        super().__init__()
        self.floor = floor

    def measure(self, judged: Judged) -> Tensor:
        """Values [B], about -1 to 1; NaN below the floor, or where a photo shows no face."""
        count = min(judged.conditioned.identity.shape[1], judged.references.identity.shape[1])
        conditioned, unseen = judged.conditioned[:, :count], judged.references[:, :count]
        portrait = judged.generated.identity[:, None]
        to_reference = _angles(portrait, conditioned.identity, conditioned.has_face)[:, 0]
        to_unseen = _angles(portrait, unseen.identity, unseen.has_face)[:, 0]
        copied, which = to_reference.min(dim=1)
        nearest = conditioned.identity[torch.arange(len(which)), which][:, None]
        between = _angles(nearest, unseen.identity, unseen.has_face)[:, 0].min(dim=1).values
        leaning = (to_unseen.min(dim=1).values - copied) / between.clamp(min=1e-3)
        likeness = similarity_to_references(
            judged.generated.identity, judged.references.identity, judged
        )
        counted = (likeness >= self.floor) & judged.generated.has_face & leaning.isfinite()
        return leaning.where(counted, torch.nan)


def _angles(one: Tensor, other: Tensor, known: Tensor) -> Tensor:
    """Angles [B, K, L] between unit vectors [B, K, e] and [B, L, e]; inf where not known [B, L]."""
    angles = (one @ other.mT).clamp(-1, 1).acos()
    return angles.masked_fill(~known[:, None], torch.inf)
