"""Rank 1: recognition of the right person among all scored people."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.utilities import dim_zero_cat

from portraitlab.scoring.metrics.metric import Estimate, PortraitMetric
from portraitlab.types import Judged


class Rank1(PortraitMetric):
    """Share of portraits whose nearest person, by the judging recogniser, is the right one.

    A person is represented by the mean embedding of their judging photos. All scored people are
    candidates: in a split of look-alikes (data.split=test_look_alikes) this includes each person's
    family, who are nearest, and with data.targets_of=others the stranger whose pose is used.
    """

    higher_is_better = True
    method = "nearest of all scored people by {recogniser}'s embeddings"
    missed = "0"

    portraits: list[Tensor]
    owner: list[Tensor]
    photos: list[Tensor]
    photo_owner: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("portraits", "owner", "photos", "photo_owner"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, judged: Judged) -> None:
        """Add a batch."""
        seen = judged.generated.has_face
        self.portraits.append(judged.generated.identity.where(seen[:, None], torch.nan))
        self.owner.append(judged.identity)
        known = judged.references.has_face
        self.photos.append(judged.references.identity[known])
        self.photo_owner.append(judged.identity[:, None].expand_as(known)[known])

    def compute(self) -> Estimate:
        """Compute share and standard error over identities; NaN for fewer than two known people."""
        portraits, owner = dim_zero_cat(self.portraits), dim_zero_cat(self.owner)
        photos, photo_owner = dim_zero_cat(self.photos), dim_zero_cat(self.photo_owner)
        people = photo_owner.unique()
        if len(people) < 2:
            return Estimate(math.nan, math.nan, 0, 0)
        means = torch.stack([photos[photo_owner == person].mean(dim=0) for person in people])
        nearest = people[(portraits @ functional.normalize(means, dim=1).T).argmax(dim=1)]
        right = ((nearest == owner) & ~portraits.isnan().any(dim=1)).double()
        known = torch.isin(owner, people)
        return Estimate.over_identities(right[known], owner[known])
