"""Rank 1: is the person the nearest of all who are scored?"""

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

    A person is the mean of their photos that judge. All people of the scoring take part: of a split
    of look-alikes (data.split=test_look_alikes) each person's family does, which is nearest, and
    with data.targets_of=others so does the stranger whose pose is taken.
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
        """Take in a batch."""
        seen = judged.generated.has_face
        self.portraits.append(judged.generated.identity.where(seen[:, None], torch.nan))
        self.owner.append(judged.identity)
        known = judged.references.has_face
        self.photos.append(judged.references.identity[known])
        self.photo_owner.append(judged.identity[:, None].expand_as(known)[known])

    def compute(self) -> Estimate:
        """Share and standard error over identities; NaN where fewer than two people are known."""
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
