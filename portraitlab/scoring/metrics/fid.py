"""FID: distance between the sets of generated and real pictures (HiFi-Portrait, Sec. 4.1)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from portraitlab.scoring.metrics.metric import Estimate, PortraitMetric
from portraitlab.types import Judged


class Fid(PortraitMetric):
    """Frechet distance of Gaussians fitted to features of generated and of real pictures.

    The real pictures are the photos of Judged.population, none of which is a target. Distances on
    embeddings of the CLIP pair, as in the world, are comparable within one table only. The distance
    falls with the number of pictures on either side, so rows and bounds use the same number. Its
    error is a delete-a-group jackknife over the identities of the generated pictures.

    groups: largest number of groups of identities in the jackknife.
    """

    higher_is_better = False
    of_set = True
    method = "clean-fid's Frechet distance of {features}"
    missed = "as any picture"

    generated: list[Tensor]
    generated_identity: list[Tensor]
    real: list[Tensor]

    def __init__(self, groups: int = 20) -> None:
        super().__init__()
        self.groups = groups
        for state in ("generated", "generated_identity", "real"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, judged: Judged) -> None:
        """Add a batch; all batches have the same population. A picture of several counts once."""
        self.generated.append(judged.generated.features[judged.first])
        self.generated_identity.append(judged.identity[judged.first])
        self.real = [judged.population.features]

    def compute(self) -> Estimate:
        """Compute distance and jackknife error; NaN below two pictures or two identities."""
        generated, owner = _numpy(self.generated), _numpy(self.generated_identity)
        real = _numpy(self.real)
        identities = np.unique(owner)
        groups = np.array_split(identities, min(self.groups, len(identities)))
        moments = _moments(real)
        rest = (generated[~np.isin(owner, group)] for group in groups)
        without = [_distance(_moments(each), moments) for each in rest]
        spread = np.square(np.subtract(without, np.mean(without))).mean() * (len(groups) - 1)
        error = math.sqrt(spread) if len(groups) > 1 else math.nan
        return Estimate(frechet_distance(generated, real), error, len(generated), len(identities))


def frechet_distance(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Compute the distance of two sets of features [n, e]; NaN where a set has fewer than two.

    It is clean-fid's, or by singular values where features outnumber pictures: covariances then
    do not have full rank, and clean-fid's square root of their product is slow and may fail with an
    imaginary part.
    """
    if min(len(left), len(right)) <= left.shape[1]:
        return by_singular_values(left, right)
    from cleanfid.fid import frechet_distance as distance

    moments = [(points.mean(axis=0), np.cov(points, rowvar=False)) for points in (left, right)]
    return float(distance(*moments[0], *moments[1]))


def by_singular_values(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Compute the distance with the trace of sqrt(C C') as nuclear norm of the data's product.

    The jackknife uses it too, since clean-fid's square root takes as long for ten pictures as for
    ten thousand: a quarter of a minute for Inception's 2,048 features.
    """
    return _distance(_moments(left), _moments(right))


_Moments = tuple[NDArray[np.float64], NDArray[np.float64]] | None
"""Mean [e] of points, and rows S with S'S as their covariance; None for fewer than two points."""


def _moments(points: NDArray[np.float64]) -> _Moments:
    if len(points) < 2:
        return None
    mean = points.mean(axis=0)
    rows = (points - mean) / math.sqrt(len(points) - 1)
    # Rotate to at most as many rows as features.
    return mean, rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))


def _distance(left: _Moments, right: _Moments) -> float:
    if left is None or right is None:
        return math.nan
    (mean, one), (other_mean, other) = left, right
    squares = np.square(one).sum() + np.square(other).sum()
    means = np.square(mean - other_mean).sum()
    return float(means + squares - 2 * np.linalg.norm(one @ other.T, "nuc"))


def _numpy(state: list[Tensor]) -> NDArray[np.float64]:
    array: NDArray[np.float64] = dim_zero_cat(state).cpu().double().numpy()
    return array
