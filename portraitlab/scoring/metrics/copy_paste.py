"""Copy-paste: similarity of a portrait to a reference photo beyond that to the person.

It follows the copy-paste metric of MultiID-Bench (WithAnyone, Xu et al., 2025, arXiv 2510.14975).
"""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.scoring.metrics.metric import MeanMetric, similarity_to_references
from portraitlab.types import Judged


class CopyPaste(MeanMetric):
    """Lead of a portrait's nearest conditioned photo over its nearest unseen photo of the person.

    It is computed from angles between the judging recogniser's embeddings, (a - b) / c: a to the
    nearest of the judging photos, b to the nearest of the conditioned ones, from equally many of
    both, and c between that reference and the nearest judging photo. 1 is a copy of a reference, 0
    a portrait as near to unseen photos, -1 a copy of an unseen photo. The paper uses the target in
    place of unseen photos, but targets may show a stranger in this framework. Portraits that do not
    look like the person are left out.

    floor: least mean cosine to the judging photos for a portrait to count.
    """

    higher_is_better = False
    method = "angles of {recogniser}'s embeddings, nearest reference to nearest unseen photo"
    missed = "left out"

    def __init__(self, floor: float = 0.3) -> None:
        super().__init__()
        self.floor = floor

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B], about -1 to 1; NaN below the floor, or if a photo shows no face."""
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
    """Compute angles [B, K, L] of unit vectors [B, K, e] and [B, L, e]; inf if not known [B, L]."""
    angles = (one @ other.mT).clamp(-1, 1).acos()
    return angles.masked_fill(~known[:, None], torch.inf)
