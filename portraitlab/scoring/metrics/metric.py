"""Base classes of metrics: an estimate over identities and its standard error."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from portraitlab.types import DrawingCost, Judged


class Estimate(NamedTuple):
    """A value with its standard error over identities (NaN below two), and their numbers.

    Images of one identity are alike, so the error is computed over identities, not images.
    by_identity: the mean of each identity by its number, for paired comparisons; None if the value
    is not a mean. by_judge: the means by each recogniser, in order, for metrics with several.
    """

    value: float
    error: float
    samples: int
    identities: int
    by_identity: dict[int, float] | None = None
    by_judge: tuple[float, ...] | None = None

    @classmethod
    def over_identities(cls, values: Tensor, identities: Tensor) -> Estimate:
        """Average the means of identities [B] over values [B]; NaN values are left out."""
        known = ~values.isnan()
        values, identities = values[known], identities[known]
        by_identity = {int(i): float(values[identities == i].mean()) for i in identities.unique()}
        means = torch.tensor(list(by_identity.values()) or [math.nan], dtype=torch.double)
        count = len(by_identity)
        error = float(means.std()) / math.sqrt(count) if count > 1 else math.nan
        return cls(float(means.mean()), error, len(values), count, by_identity)


class PortraitMetric(Metric):
    """A metric over all scored images: `update` with each batch, then `compute`.

    higher_is_better: direction of improvement. method: description for records, a format string
    for Judge.titles. missed: value of an image without a face, for records. by_regressor: True if
    estimates of the face are compared, whose own error is then printed too. of_set: True if it is
    one value of all pictures together, which must not repeat. alone: number of
    samples to draw without a net as well (Judged.alone). timed: True if Judged.cost is read.
    reads: optional fields of View and Judged that are measured only for the metrics that read them.
    """

    full_state_update = False
    by_regressor = False
    of_set = False
    alone = 0
    timed = False
    reads: tuple[str, ...] = ()
    method: str
    missed: str

    def __init__(self) -> None:
        # Only one process scores, also after a distributed training: never synchronise.
        super().__init__(sync_on_compute=False)

    @abstractmethod
    def update(self, judged: Judged) -> None:
        """Take in a batch."""

    @abstractmethod
    def compute(self) -> Estimate:
        """Compute the estimate over all batches so far."""


class CostMetric(PortraitMetric):
    """A number of Judged.cost, the same for all images; it has no error over identities."""

    higher_is_better = False
    timed = True
    missed = "as any picture"
    cost: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("cost", default=torch.tensor(math.nan), dist_reduce_fx="mean")

    @abstractmethod
    def of(self, cost: DrawingCost) -> float:
        """Return the number."""

    def update(self, judged: Judged) -> None:
        """Take in the cost; photos have none."""
        if judged.cost is not None:
            self.cost = torch.tensor(self.of(judged.cost), dtype=torch.double)

    def compute(self) -> Estimate:
        """Return the number, NaN without a cost."""
        return Estimate(float(self.cost), math.nan, 1, 1)


class MeanMetric(PortraitMetric):
    """A mean over identities of the mean of `measure` over an identity's images."""

    values: list[Tensor]
    identities: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("identities", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def measure(self, judged: Judged) -> Tensor:
        """Compute one value per image [B]; NaN leaves the image out."""

    def update(self, judged: Judged) -> None:
        """Take in a batch."""
        self.values.append(self.measure(judged).double())
        self.identities.append(judged.identity)

    def compute(self) -> Estimate:
        """Compute mean and standard error over identities; NaN if no image was measured."""
        return Estimate.over_identities(dim_zero_cat(self.values), dim_zero_cat(self.identities))


class ProfileQuantile(MeanMetric):
    """A quantile of a portrait's cosines to the judging photos of the person, its profiles.

    IC-Portrait's Table 1 has minimum, maximum, median and mean of the similarities "between all the
    profile images for each result". Read here: each is taken over the profiles of one result, and
    then averaged over results; the mean is Sim_f. The paper's upper bound, profiles against each
    other, is the bound `real other photo`. Extremes depend on the number of profiles
    (data.judges).

    quantile: 0 is the minimum, 1 the maximum.
    """

    higher_is_better = True
    missed = "0"
    quantile: float

    def measure(self, judged: Judged) -> Tensor:
        """Compute values [B] in [-1, 1]; 0 without a face, NaN if no profile shows one."""
        cosines = cosines_to_references(
            judged.generated.identity, judged.references.identity, judged
        )
        return cosines.nanquantile(self.quantile, dim=1)


def similarity_to_references(generated: Tensor, references: Tensor, judged: Judged) -> Tensor:
    """Compute the mean cosine [B] of unit vectors [B, e] with references [B, R, e] with a face.

    It is 0 if the generated image contains no face, and NaN if no reference does.
    """
    return cosines_to_references(generated, references, judged).nanmean(dim=1)


def cosines_to_references(generated: Tensor, references: Tensor, judged: Judged) -> Tensor:
    """Compute cosines [B, R] of unit vectors [B, e] with references [B, R, e].

    They are 0 if the generated image contains no face, and NaN for references without one.
    """
    cosines = torch.einsum("be,bre->br", generated, references)
    cosines = cosines.where(judged.generated.has_face[:, None], 0.0)
    return cosines.where(judged.references.has_face, torch.nan)


def distance_to_target(generated: Tensor, target: Tensor, judged: Judged) -> Tensor:
    """Compute the root mean squared difference [B] of vectors [B, E]; NaN without a face.

    An image without a face has no expression, and a distance of 0 would be perfect. Such images
    are left out, and records contain their number.
    """
    distance = (generated - target).square().mean(dim=1).sqrt()
    return distance.where(judged.generated.has_face & judged.target.has_face, torch.nan)


def shadings(judged: Judged) -> tuple[Tensor, Tensor]:
    """Return the luminance [B, K K] of the generated and the target's face; NaN without one."""
    generated, target = judged.generated, judged.target
    assert generated.shading is not None
    assert target.shading is not None
    known = (generated.has_face & target.has_face)[:, None]
    one, other = (
        cells.flatten(1).where(known, torch.nan) for cells in (generated.shading, target.shading)
    )
    return one, other
