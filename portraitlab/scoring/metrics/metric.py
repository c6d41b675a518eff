"""What metrics have in common: an estimate over identities and its standard error."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from portraitlab.types import Judged


class Estimate(NamedTuple):
    """A figure and its standard error over identities (NaN below two); over how many it is taken.

    Images of one identity are alike, so the error is taken over identities, not images.
    by_identity: the mean of each identity by its number, for paired comparisons; None where the
    figure is no mean. by_judge: the mean by each recogniser, the first one first, of a metric that
    looks by several.
    """

    value: float
    error: float
    samples: int
    identities: int
    by_identity: dict[int, float] | None = None
    by_judge: tuple[float, ...] | None = None

    @classmethod
    def over_identities(cls, values: Tensor, identities: Tensor) -> Estimate:
        """Mean of the identities' means of values [B], identities [B]; NaN leaves a value out."""
        known = ~values.isnan()
        values, identities = values[known], identities[known]
        by_identity = {int(i): float(values[identities == i].mean()) for i in identities.unique()}
        means = torch.tensor(list(by_identity.values()) or [math.nan], dtype=torch.double)
        count = len(by_identity)
        error = float(means.std()) / math.sqrt(count) if count > 1 else math.nan
        return cls(float(means.mean()), error, len(values), count, by_identity)


class PortraitMetric(Metric):
    """A figure over all scored images; `update` with each batch, then `compute`.

    higher_is_better: which way it is read. method: what computes it, for the record, with
    Judge.titles to be filled in. missed: what an image without a face counts as. by_regressor:
    whether it compares what the face regressor gives, whose own error is then printed beside it.
    alone: how many samples are to be drawn without a net as well (Judged.alone).
    """

    full_state_update = False
    by_regressor = False
    alone = 0
    method: str
    missed: str

    def __init__(self) -> None:
        # One process scores, also after a distributed training: there is nobody to wait for.
        super().__init__(sync_on_compute=False)

    @abstractmethod
    def update(self, judged: Judged) -> None:
        """Take in a batch."""

    @abstractmethod
    def compute(self) -> Estimate:
        """The estimate over all batches so far."""


class MeanMetric(PortraitMetric):
    """Mean over identities of the mean over an identity's images of `measure`."""

    values: list[Tensor]
    identities: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("identities", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def measure(self, judged: Judged) -> Tensor:
        """One value per image [B]; NaN leaves the image out."""

    def update(self, judged: Judged) -> None:
        """Take in a batch."""
        self.values.append(self.measure(judged).double())
        self.identities.append(judged.identity)

    def compute(self) -> Estimate:
        """Mean and standard error over identities; NaN where no image was measured."""
        return Estimate.over_identities(dim_zero_cat(self.values), dim_zero_cat(self.identities))


def similarity_to_references(generated: Tensor, references: Tensor, judged: Judged) -> Tensor:
    """Mean cosine [B] of unit vectors [B, e] with the references' [B, R, e] that have faces.

    0 where the generated image holds no face; NaN where no reference does.
    """
    known = judged.references.has_face
    cosines = torch.einsum("be,bre->br", generated, references)
    mean = cosines.where(known, torch.nan).nanmean(dim=1)
    return mean.where(judged.generated.has_face | mean.isnan(), 0.0)


def distance_to_target(generated: Tensor, target: Tensor, judged: Judged) -> Tensor:
    """Root mean squared difference [B] of vectors [B, E]; NaN where a face is missing.

    There is no honest number for the expression of no face: 0 would be perfect. Such images are
    left out, and the record says how many there were.
    """
    distance = (generated - target).square().mean(dim=1).sqrt()
    return distance.where(judged.generated.has_face & judged.target.has_face, torch.nan)
