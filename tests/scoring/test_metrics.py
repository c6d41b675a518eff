"""Metrics on tensors alone."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from cleanfid import fid as clean_fid
from torch.nn.functional import normalize

from portraitlab.scoring.metrics.clip_f import ClipF
from portraitlab.scoring.metrics.clip_i import ClipI
from portraitlab.scoring.metrics.clip_t import ClipT
from portraitlab.scoring.metrics.copy_paste import CopyPaste
from portraitlab.scoring.metrics.exp import Expression
from portraitlab.scoring.metrics.face_fid import FaceFid
from portraitlab.scoring.metrics.fid import Fid, by_singular_values, frechet_distance
from portraitlab.scoring.metrics.intrusion import Intrusion
from portraitlab.scoring.metrics.light import LightAngle
from portraitlab.scoring.metrics.memory import Memory
from portraitlab.scoring.metrics.metric import Estimate
from portraitlab.scoring.metrics.pose import Pose
from portraitlab.scoring.metrics.rank1 import Rank1
from portraitlab.scoring.metrics.seconds import Seconds
from portraitlab.scoring.metrics.shading import Shading
from portraitlab.scoring.metrics.shading_error import ShadingError
from portraitlab.scoring.metrics.shading_error_scaled import ShadingErrorScaled
from portraitlab.scoring.metrics.sim_f import SimF
from portraitlab.scoring.metrics.sim_max import SimMax
from portraitlab.scoring.metrics.sim_median import SimMedian
from portraitlab.scoring.metrics.sim_min import SimMin
from portraitlab.scoring.metrics.spread import Spread
from portraitlab.scoring.metrics.stability import Stability
from portraitlab.scoring.metrics.unet_calls import UNetCalls
from portraitlab.scoring.metrics.yaw import Yaw
from portraitlab.types import DrawingCost, Judged, Population, View


def make_view(*shape: int, seed: int = 0, width: int = 8) -> View:
    generator = torch.Generator().manual_seed(seed)

    def normal(dim: int) -> torch.Tensor:
        return torch.randn(*shape, dim, generator=generator)

    return View(
        identity=normalize(normal(width), dim=-1),
        face=normalize(normal(width), dim=-1),
        picture=normalize(normal(width), dim=-1),
        features=normal(width),
        expression=normal(4),
        pose=normal(3),
        has_face=torch.ones(*shape, dtype=torch.bool),
        further=normalize(normal(width), dim=-1)[..., None, :],
        faces=torch.ones(*shape, dtype=torch.long),
    )


def make_judged(images: int = 6, references: int = 3, identities: int = 3) -> Judged:
    return Judged(
        generated=make_view(images, seed=1),
        target=make_view(images, seed=2),
        references=make_view(images, references, seed=3),
        conditioned=make_view(images, references, seed=5),
        text=make_view(images, seed=4).picture,
        identity=torch.arange(images) % identities,
        alone=make_view(images, seed=6).picture,
        image=torch.arange(images),
        population=Population(make_view(30, seed=7).features, torch.tensor([0.5, 1.0, 2.0, 4.0])),
    )


def without_face(view: View, *places: int) -> View:
    has_face = view.has_face.clone()
    has_face[list(places)] = False
    return replace(view, has_face=has_face)


@pytest.mark.parametrize(("metric", "field"), [(SimF, "identity"), (ClipF, "face")])
def test_similarity_is_the_mean_cosine_to_the_references(metric: type[SimF], field: str) -> None:
    measured = metric()
    judged = make_judged()
    expected = torch.stack(
        [
            torch.stack(
                [
                    torch.dot(getattr(judged.generated, field)[i], reference)
                    for reference in getattr(judged.references, field)[i]
                ]
            ).mean()
            for i in range(6)
        ]
    )
    torch.testing.assert_close(measured.measure(judged), expected)


def test_an_image_without_a_face_counts_as_zero_similarity() -> None:
    judged = make_judged()
    judged = replace(judged, generated=without_face(judged.generated, 0, 3))
    values = SimF().measure(judged)
    assert values[0] == values[3] == 0
    assert (values[[1, 2, 4, 5]] != 0).all()


def test_a_reference_without_a_face_is_not_compared_with() -> None:
    judged = make_judged()
    fewer = replace(judged.references, has_face=torch.tensor([[True, True, False]] * 6))
    values = SimF().measure(replace(judged, references=fewer))
    torch.testing.assert_close(values, SimF().measure(replace(judged, references=fewer[:, :2])))
    none = replace(judged.references, has_face=torch.zeros(6, 3, dtype=torch.bool))
    assert SimF().measure(replace(judged, references=none)).isnan().all()


@pytest.mark.parametrize(("metric", "field"), [(Expression, "expression"), (Pose, "pose")])
def test_distance_is_the_rmse_and_leaves_missed_faces_out(metric: type[Pose], field: str) -> None:
    measured = metric()
    judged = make_judged()
    judged = replace(judged, generated=without_face(judged.generated, 2))
    values = measured.measure(judged)
    difference = getattr(judged.generated, field)[0] - getattr(judged.target, field)[0]
    if field == "expression":
        difference = difference / judged.population.deviation
    assert values[0] == pytest.approx(float(difference.pow(2).mean().sqrt()))
    assert values[2].isnan()
    measured.update(judged)
    assert measured.compute().samples == 5
    same = replace(judged, generated=judged.target)
    assert (measured.measure(same) == 0).all()


def test_clip_t_is_the_cosine_with_the_prompt() -> None:
    judged = make_judged()
    expected = torch.dot(judged.generated.picture[2], judged.text[2])
    assert ClipT().measure(judged)[2] == pytest.approx(float(expected))


def test_the_error_is_taken_over_identities_not_images() -> None:
    metric = ClipT()
    judged = make_judged(images=6, identities=3)
    metric.update(judged[:4])
    metric.update(judged[4:])
    values = metric.measure(judged)
    means = [float(values[[i, i + 3]].mean()) for i in range(3)]
    estimate = metric.compute()
    assert estimate.value == pytest.approx(np.mean(means))
    assert estimate.error == pytest.approx(np.std(means, ddof=1) / math.sqrt(3))
    assert (estimate.samples, estimate.identities) == (6, 3)


def test_one_identity_has_no_error() -> None:
    metric = SimF()
    metric.update(make_judged(identities=1))
    assert math.isnan(metric.compute().error)
    assert not math.isnan(metric.compute().value)


def test_nothing_measured_is_no_number() -> None:
    judged = make_judged()
    metric = Pose()
    metric.update(replace(judged, generated=without_face(judged.generated, *range(6))))
    assert math.isnan(metric.compute().value)


def test_frechet_distance_agrees_with_its_formula_by_singular_values() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((40, 6)), rng.standard_normal((50, 6)) * 1.5 + 0.3
    # Tr sqrt(S1 S2) is the nuclear norm of the product of the centred, scaled data matrices.
    a = (left - left.mean(0)) / math.sqrt(len(left) - 1)
    b = (right - right.mean(0)) / math.sqrt(len(right) - 1)
    nuclear = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    means = np.square(left.mean(0) - right.mean(0)).sum()
    expected = means + np.square(a).sum() + np.square(b).sum() - 2 * nuclear
    assert frechet_distance(left, right) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(left, left) == pytest.approx(0, abs=1e-4)
    # Fewer pictures than features, of which covariances have no full rank.
    few = rng.standard_normal((9, 12)), rng.standard_normal((7, 12)) + 0.3
    with warnings.catch_warnings(action="ignore"):  # clean-fid's own, of such
        moments = [value for p in few for value in (p.mean(axis=0), np.cov(p, rowvar=False))]
        assert frechet_distance(*few) == pytest.approx(clean_fid.frechet_distance(*moments), 1e-4)
    assert by_singular_values(left, right) == pytest.approx(expected, rel=1e-9)
    assert math.isnan(frechet_distance(left[:1], right))


def test_an_expression_off_by_a_deviation_in_every_coefficient_is_1() -> None:
    judged = make_judged()
    moved = judged.target.expression + judged.population.deviation
    judged = replace(judged, generated=replace(judged.target, expression=moved))
    torch.testing.assert_close(Expression().measure(judged), torch.ones(6))


def test_fid_compares_with_the_population_alone() -> None:
    judged = make_judged(images=20, references=2, identities=5)
    metric = Fid(groups=5)
    metric.update(judged[:7])
    metric.update(judged[7:])
    estimate = metric.compute()
    real = judged.population.features.numpy()
    expected = frechet_distance(judged.generated.features.numpy(), real)
    assert estimate.value == pytest.approx(expected, rel=1e-4)
    assert estimate.error > 0
    assert (estimate.samples, estimate.identities) == (20, 5)


def test_face_fid_compares_each_person_with_the_faces_of_the_population() -> None:
    judged = replace(make_judged(), image=torch.tensor([0, 0, 1, 1, 2, 2]))
    drawn, real = make_view(6, seed=8).features, make_view(11, seed=9).features
    judged = replace(
        judged,
        generated=replace(judged.generated, face_features=drawn),
        population=replace(judged.population, face_features=real),
    )
    metric = FaceFid()
    metric.update(judged[:2])
    metric.update(judged[2:])
    estimate = metric.compute()
    expected = frechet_distance(drawn.double().numpy(), real.double().numpy())
    assert estimate.value == pytest.approx(expected, rel=1e-4)
    assert estimate.samples == 6


def test_the_fid_error_is_the_jackknife_over_identities() -> None:
    judged = make_judged(images=24, references=2, identities=6)
    metric = Fid(groups=100)
    metric.update(judged)
    real = judged.population.features.numpy()
    values = [
        frechet_distance(judged[judged.identity != left_out].generated.features.numpy(), real)
        for left_out in range(6)
    ]
    variance = 5 / 6 * np.square(np.array(values) - np.mean(values)).sum()
    assert metric.compute().error == pytest.approx(math.sqrt(variance), rel=1e-3)


def test_a_copy_of_a_reference_is_1_of_an_unseen_photo_minus_1_and_neither_is_between() -> None:
    judged = make_judged()
    metric = CopyPaste(floor=-1.0)
    copied = replace(judged, generated=judged.conditioned[:, 1])
    torch.testing.assert_close(metric.measure(copied), torch.ones(6), atol=1e-3, rtol=0)
    unseen = replace(judged, generated=judged.references[:, 2])
    assert (metric.measure(unseen) < -0.5).all()
    values = metric.measure(judged)
    assert ((values > -1) & (values < 1)).all()
    turned = replace(judged, references=judged.conditioned, conditioned=judged.references)
    assert (metric.measure(turned).sign() == -values.sign()).all()


@pytest.mark.parametrize("side", ["references", "conditioned"])
def test_as_many_reference_photos_as_unseen_ones_are_compared(side: str) -> None:
    judged = replace(make_judged(), **{side: make_view(6, 9, seed=8)})
    cut = replace(judged, **{side: getattr(judged, side)[:, :3]})
    metric = CopyPaste(floor=-1.0)
    torch.testing.assert_close(metric.measure(judged), metric.measure(cut))


def test_copying_is_counted_of_portraits_that_look_like_the_person_alone() -> None:
    judged = make_judged()
    judged = replace(judged, generated=without_face(judged.references[:, 0], 4))
    likeness = SimF().measure(judged)
    floor = float(likeness.median())
    left = CopyPaste(floor).measure(judged).isnan()
    assert left.tolist() == [value < floor or n == 4 for n, value in enumerate(likeness.tolist())]


def test_rank_1_is_the_share_of_portraits_whose_nearest_person_is_theirs() -> None:
    judged = make_judged(images=6, identities=6)
    right = replace(judged, generated=judged.references[:, 0])
    metric = Rank1()
    people = normalize(judged.references.identity.mean(dim=1), dim=1)
    nearest = (judged.generated.identity @ people.T).argmax(dim=1)
    metric.update(judged[:2])
    metric.update(judged[2:])
    assert metric.compute().value == pytest.approx(
        float((nearest == judged.identity).double().mean())
    )
    moved = torch.tensor([1, 0, 2, 3, 4, 5])
    for given, share in ((right, 1.0), (replace(right, generated=right.generated[moved]), 4 / 6)):
        metric.reset()
        metric.update(replace(given, references=given.references[:, :1]))
        assert metric.compute().value == pytest.approx(share)
    metric.reset()
    metric.update(right[:1])
    assert math.isnan(metric.compute().value)


def directions(*degrees: float) -> torch.Tensor:
    """Unit vectors [K, 8] in the plane of the first two axes."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.nn.functional.pad(torch.stack([angles.cos(), angles.sin()], dim=1), (0, 6))


def test_a_person_with_varied_photos_is_no_farther_and_one_without_a_face_is_left_out() -> None:
    judged = make_judged(images=3, references=2, identities=3)
    photos = torch.stack([directions(80, -80), directions(45, 45), directions(10, 10)])
    shown = torch.tensor([[True, True], [True, True], [False, False]])
    judged = replace(
        judged,
        references=replace(judged.references, identity=photos, has_face=shown),
        generated=replace(judged.generated, identity=directions(10, 45, 10)),
    )
    metric = Rank1()
    metric.update(judged)
    estimate = metric.compute()
    assert (estimate.value, estimate.samples, estimate.identities) == (1.0, 2, 2)
    metric.reset()
    metric.update(judged[:1])
    assert metric.compute()[2:4] == (0, 0)


def test_a_portrait_without_a_face_is_nobody() -> None:
    judged = make_judged(images=6, identities=6)
    judged = replace(judged, references=judged.references[:, :1])
    judged = replace(judged, generated=without_face(judged.references[:, 0], 0, 5))
    metric = Rank1()
    metric.update(judged)
    assert metric.compute().value == pytest.approx(4 / 6)


def test_intrusion_compares_with_the_pictures_of_the_backbone() -> None:
    judged = make_judged()
    judged.alone[4:] = torch.nan
    metric = Intrusion(alone=4)
    assert metric.alone == 4
    same = replace(judged, generated=replace(judged.generated, picture=judged.alone))
    torch.testing.assert_close(metric.measure(same)[:4], torch.ones(4))
    metric.update(judged)
    estimate = metric.compute()
    assert estimate.samples == 4


def test_the_spread_is_over_all_judges_and_of_one_there_is_none() -> None:
    judged = make_judged()
    metric = Spread()
    metric.update(judged)
    estimate = metric.compute()
    second = SimF().measure(
        replace(
            judged,
            generated=replace(judged.generated, identity=judged.generated.further[:, 0]),
            references=replace(judged.references, identity=judged.references.further[:, :, 0]),
        )
    )
    first = SimF().measure(judged)
    torch.testing.assert_close(metric.measure(judged), (first - second).abs())
    assert estimate.by_judge == pytest.approx((float(first.mean()), float(second.mean())))

    def alone(view: View) -> View:
        return replace(view, further=view.further[..., :0, :])

    judged = replace(judged, generated=alone(judged.generated), references=alone(judged.references))
    metric.reset()
    metric.update(judged)
    assert math.isnan(metric.compute().value)


@pytest.mark.parametrize(("kind", "value"), [(Seconds, 1.5), (Memory, 18.1), (UNetCalls, 16.0)])
def test_the_cost_of_a_picture_is_a_number_without_an_error(kind: type, value: float) -> None:
    metric = kind()
    metric.update(replace(make_judged(), cost=DrawingCost(1.5, 18.1, 16)))
    estimate = metric.compute()
    assert estimate.value == pytest.approx(value)
    assert math.isnan(estimate.error)
    assert (estimate.samples, estimate.identities) == (1, 1)
    metric.reset()
    metric.update(make_judged())  # photos have no cost
    assert math.isnan(metric.compute().value)


@pytest.mark.parametrize(
    ("metric", "quantile"), [(SimMin(), 0.0), (SimMedian(), 0.5), (SimMax(), 1.0)]
)
def test_a_statistic_over_profiles_is_of_each_result(metric: SimMin, quantile: float) -> None:
    judged = make_judged(references=4)
    fewer = torch.tensor([[True, True, False, True]] + [[True] * 4] * 5)
    judged = replace(judged, references=replace(judged.references, has_face=fewer))
    judged = replace(judged, generated=without_face(judged.generated, 2))
    values = metric.measure(judged)
    for image in (0, 1, 3, 4, 5):
        profiles = judged.references.identity[image][fewer[image]]
        cosines = sorted(float(judged.generated.identity[image] @ each) for each in profiles)
        middle = (cosines[(len(cosines) - 1) // 2] + cosines[len(cosines) // 2]) / 2
        expected = {0.0: cosines[0], 0.5: middle, 1.0: cosines[-1]}[quantile]
        assert values[image] == pytest.approx(expected, abs=1e-6)
    assert values[2] == 0
    none = replace(judged.references, has_face=torch.zeros(6, 4, dtype=torch.bool))
    assert metric.measure(replace(judged, references=none)).isnan().all()


def test_the_mean_over_profiles_is_sim_f() -> None:
    judged = make_judged(references=4)
    cosines = torch.einsum("be,bre->br", judged.generated.identity, judged.references.identity)
    torch.testing.assert_close(SimF().measure(judged), cosines.mean(dim=1))
    low, middle, high = (metric().measure(judged) for metric in (SimMin, SimMedian, SimMax))
    assert ((low <= middle) & (middle <= high)).all()


SHADED = [Shading(), ShadingError(), ShadingErrorScaled()]


def shaded(judged: Judged, generated: torch.Tensor, target: torch.Tensor) -> Judged:
    return replace(
        judged,
        generated=replace(judged.generated, shading=generated),
        target=replace(judged.target, shading=target),
    )


def test_shading_is_a_correlation_and_an_error_with_and_without_brightness() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.rand(6, 3, 3, generator=draw) for _ in range(2))
    judged = shaded(make_judged(), one, other)
    correlation, error, scaled = (metric.measure(judged) for metric in SHADED)
    for image in range(6):
        x, y = one[image].flatten().double().numpy(), other[image].flatten().double().numpy()
        assert correlation[image] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)
        assert error[image] == pytest.approx(np.sqrt(((x - y) ** 2).mean()), abs=1e-5)
        factors = np.linspace(0, 3, 3001)
        least = min(np.sqrt(((factor * x - y) ** 2).mean()) for factor in factors)
        assert scaled[image] == pytest.approx(least, abs=1e-4)


def test_a_copy_wins_every_shading_score_and_a_darker_one_all_but_the_error() -> None:
    target = torch.rand(6, 3, 3, generator=torch.Generator().manual_seed(0))
    for factor in (1.0, 0.5):
        judged = shaded(make_judged(), factor * target, target)
        correlation, error, scaled = (metric.measure(judged) for metric in SHADED)
        torch.testing.assert_close(correlation, torch.ones(6))
        assert (scaled < 1e-6).all()
        assert ((error < 1e-6) == (factor == 1)).all()
    black = shaded(make_judged(), torch.zeros(6, 3, 3), target)
    assert (Shading().measure(black) == 0).all()
    assert ShadingErrorScaled().measure(black).isfinite().all()


@pytest.mark.parametrize("metric", SHADED)
def test_a_face_that_is_missed_has_no_shading(metric: Shading) -> None:
    cells = torch.rand(6, 3, 3)
    judged = shaded(make_judged(), cells, cells)
    judged = replace(judged, generated=without_face(judged.generated, 2))
    assert metric.measure(judged).isnan().nonzero().tolist() == [[2]]


def test_light_is_the_angle_to_the_true_light() -> None:
    class Right(torch.nn.Module):
        def forward(self, shading: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1.0, 0, 0]]).expand(len(pose), 3)

    cells = torch.rand(6, 3, 3)
    judged = shaded(make_judged(), cells, cells)
    metric = LightAngle(Right())
    assert metric.measure(judged).isnan().all()  # photos without a true light
    half = math.sqrt(0.5)
    true = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [half, 0, half], [0, 0, 1], [1, 0, 0]])
    judged = replace(judged, light=true, generated=without_face(judged.generated, 5))
    expected = torch.tensor([0, 90, 180, 45, 90, math.nan])
    torch.testing.assert_close(metric.measure(judged), expected, equal_nan=True)
    # Cosines that rounding puts beyond 1.
    judged = replace(judged, light=true * 1.0000002)
    torch.testing.assert_close(metric.measure(judged), expected, equal_nan=True, atol=0.1, rtol=0)


def test_yaw_is_in_degrees_and_of_yaw_alone() -> None:
    judged = make_judged()
    judged = replace(judged, generated=without_face(judged.generated, 2))
    values = Yaw().measure(judged)
    radians = float(judged.generated.pose[0, 0] - judged.target.pose[0, 0])
    assert values[0] == pytest.approx(abs(math.degrees(radians)), abs=1e-4)
    assert values[2].isnan()
    turned = judged.target.pose + torch.tensor([0.0, 1.0, 1.0])
    judged = replace(judged, generated=replace(judged.target, pose=turned))
    assert (Yaw().measure(judged) < 1e-4).all()


def test_an_error_needs_two_identities() -> None:
    values = torch.tensor([0.2, 0.4, 0.9])
    two = Estimate.over_identities(values, torch.tensor([0, 0, 5]))
    assert two.by_identity == pytest.approx({0: 0.3, 5: 0.9})
    assert two.error == pytest.approx(float(np.std([0.3, 0.9], ddof=1)) / math.sqrt(2))
    assert math.isnan(Estimate.over_identities(values, torch.zeros(3)).error)
    for identities, known in ((2, True), (1, False)):
        metric = Fid()
        metric.update(make_judged(images=12, identities=identities))
        assert math.isfinite(metric.compute().error) is known


def test_clip_i_is_the_cosine_of_the_whole_pictures_once_for_several_people() -> None:
    judged = replace(make_judged(), image=torch.tensor([0, 0, 1, 1, 1, 2]))
    values = ClipI().measure(judged)
    assert values.isnan().tolist() == [False, True, False, True, True, False]
    for row in (0, 2, 5):
        expected = torch.dot(judged.generated.picture[row], judged.target.picture[row])
        assert values[row] == pytest.approx(float(expected))


def test_stability_is_the_mean_cosine_to_portraits_of_the_same_condition() -> None:
    judged = make_judged(images=6, identities=2)
    # Portraits 0, 2 and 4 are of one person, of whom 0 and 2 have one target; the others are of
    # another person and one target.
    target = judged.target.identity.clone()
    target[2] = target[0]
    target[3] = target[5] = target[1].clone()
    judged = replace(
        judged,
        target=replace(judged.target, identity=target),
        generated=without_face(judged.generated, 5),
    )
    values = Stability().measure(judged)
    faces = judged.generated.identity
    pair = float(faces[0] @ faces[2])
    seen = float(faces[1] @ faces[3])
    expected = [pair, seen / 2, pair, seen / 2, math.nan, 0.0]
    assert values.tolist() == pytest.approx(expected, nan_ok=True, abs=1e-6)
    # Another person in the same pose is another condition.
    target[1] = target[0].clone()
    other = Stability().measure(replace(judged, target=replace(judged.target, identity=target)))
    assert float(other[0]) == pytest.approx(pair, abs=1e-6)
