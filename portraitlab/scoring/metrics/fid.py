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

    Real are the targets and the references that were not conditioned on. What is embedded by the
    CLIP pair, as in the world, compares rows of one table and nothing else. The figure shrinks
    with the number of pictures, which the record says. Its error is a delete-a-group jackknife
    over identities.

    groups: of identities in the jackknife, at most.
    """

    higher_is_better = False
    method = "clean-fid's Frechet distance of {features}"
    missed = "as any picture"

    generated: list[Tensor]
    real: list[Tensor]
    generated_identity: list[Tensor]
    real_identity: list[Tensor]

    def __init__(self, groups: int = 20) -> None:
        super().__init__()
        self.groups = groups
        for state in ("generated", "real", "generated_identity", "real_identity"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, judged: Judged) -> None:
        """Take in a batch."""
        self.generated.append(judged.generated.features)
        self.generated_identity.append(judged.identity)
        references, known = judged.references, judged.references.has_face
        owner = judged.identity[:, None].expand_as(known)
        self.real += [judged.target.features, references.features[known]]
        self.real_identity += [judged.identity, owner[known]]

    def compute(self) -> Estimate:
        """Distance and jackknife error; NaN below two pictures or two identities."""
        generated, owner = _numpy(self.generated), _numpy(self.generated_identity)
        real, real_owner = _numpy(self.real), _numpy(self.real_identity)
        identities = np.unique(owner)
        groups = np.array_split(identities, min(self.groups, len(identities)))
        without = [
            by_singular_values(generated[~np.isin(owner, group)], real[~np.isin(real_owner, group)])
            for group in groups
        ]
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
    if min(len(left), len(right)) < 2:
        return math.nan
    means = np.square(left.mean(axis=0) - right.mean(axis=0)).sum()
    one, other = _spread(left), _spread(right)
    squares = np.square(one).sum() + np.square(other).sum()
    return float(means + squares - 2 * np.linalg.norm(one @ other.T, "nuc"))


def _spread(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows S of which S'S is the covariance of points [n, e]; no more than e, by a rotation."""
    rows = (points - points.mean(axis=0)) / math.sqrt(len(points) - 1)
    if len(rows) > rows.shape[1]:
        rows = np.asarray(np.linalg.qr(rows, mode="r"))
    return rows


def _numpy(state: list[Tensor]) -> NDArray[np.float64]:
    array: NDArray[np.float64] = dim_zero_cat(state).cpu().double().numpy()
    return array
