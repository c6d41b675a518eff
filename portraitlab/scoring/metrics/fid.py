"""FID: how far the generated pictures are from real ones as a set (HiFi-Portrait, Sec. 4.1)."""

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

    Real are the photos of Judged.population, which no picture is made of. What is embedded by the
    CLIP pair, as in the world, compares rows of one table and nothing else. The figure shrinks
    with the number of pictures on either side, so that rows and bounds have the same. Its error is
    a delete-a-group jackknife over the identities of the generated pictures.

    groups: of identities in the jackknife, at most.
    """

    higher_is_better = False
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
        """Take in a batch; all batches have the same population."""
        self.generated.append(judged.generated.features)
        self.generated_identity.append(judged.identity)
        self.real = [judged.population.features]

    def compute(self) -> Estimate:
        """Distance and jackknife error; NaN below two pictures or two identities."""
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
    """Distance of two sets of features [n, e]; NaN where a set has fewer than two.

    clean-fid's, and by singular values where features outnumber pictures: then covariances have no
    full rank, and clean-fid's root of their product is slow and may be refused as imaginary.
    """
    if min(len(left), len(right)) <= left.shape[1]:
        return by_singular_values(left, right)
    from cleanfid.fid import frechet_distance as distance

    moments = [(points.mean(axis=0), np.cov(points, rowvar=False)) for points in (left, right)]
    return float(distance(*moments[0], *moments[1]))


def by_singular_values(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """The same, where the trace of sqrt(C C') is the nuclear norm of the data's product.

    Also for the jackknife, since clean-fid's root takes as long for ten pictures as for ten
    thousand: of Inception's 2,048 features a quarter of a minute each time.
    """
    return _distance(_moments(left), _moments(right))


_Moments = tuple[NDArray[np.float64], NDArray[np.float64]] | None
"""Mean [e] of points, and rows S of which S'S is their covariance; None of fewer than two."""


def _moments(points: NDArray[np.float64]) -> _Moments:
    if len(points) < 2:
        return None
    mean = points.mean(axis=0)
    rows = (points - mean) / math.sqrt(len(points) - 1)
    # No more rows than features, by a rotation.
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
