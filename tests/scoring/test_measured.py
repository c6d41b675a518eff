"""Portraits are measured against bounds, real photos and portraits of the backbone alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import make_recogniser

from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import ScoringSet
from portraitlab.data.world import WorldData
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.method.select.random import RandomReference
from portraitlab.scoring.draw import Portraits, backbone_alone
from portraitlab.scoring.drawing_cost import REPEATS, drawing_cost
from portraitlab.scoring.judge import Judge
from portraitlab.scoring.measure import measure
from portraitlab.scoring.metrics.exp import Expression
from portraitlab.scoring.metrics.fid import Fid, frechet_distance
from portraitlab.scoring.metrics.intrusion import Intrusion
from portraitlab.scoring.metrics.light import LightAngle
from portraitlab.scoring.metrics.metric import PortraitMetric
from portraitlab.scoring.metrics.pose import Pose
from portraitlab.scoring.metrics.rank1 import Rank1
from portraitlab.scoring.metrics.shading import Shading
from portraitlab.scoring.metrics.sim_f import SimF
from portraitlab.scoring.metrics.spread import Spread
from portraitlab.world.pretrained import load_light


class _Model:
    """A model of which only the backbone is used."""

    def __init__(self, frozen: Frozen) -> None:
        self.backbone = frozen.backbone


@pytest.fixture
def judge(frozen: Frozen) -> Judge:
    encoder = frozen.encoder
    further = [make_recogniser(seed=2)]
    return Judge(make_recogniser(seed=1), encoder.clip, encoder.regressor, further=further).eval()


@pytest.fixture
def held_out(world_data: Callable[..., WorldData], frozen: Frozen) -> PhotoSet:
    """7 photos of each of two people, of whom every third has a flaw."""
    photos = world_data().score_photos(frozen)
    photos.store.flawed = [row % 3 == 0 for row in range(14)]
    return photos


@pytest.fixture
def measured(
    held_out: PhotoSet, frozen: Frozen, judge: Judge, world_data: Callable[..., WorldData]
) -> Callable[..., dict[str, Any]]:
    """The figures of photos in the place of portraits: a row of the store for each sample."""
    scoring = ScoringSet(held_out, 2, RandomReference(), targets=1)
    ((batch, _),) = scoring.batches(100)
    real = world_data(real_photos=12).real_photos(frozen, scoring)

    def measure_rows(
        rows: Callable[..., int], alone: int = 0, **further: PortraitMetric
    ) -> dict[str, Any]:
        images = held_out.store.images([rows(sample) for sample in scoring.samples])
        metrics: dict[str, PortraitMetric] = {
            "sim_f": SimF(), "exp": Expression(), "pose": Pose(), "fid": Fid(),
            "rank1": Rank1(), "intrusion": Intrusion(), "spread": Spread(),
            **further,
        }  # fmt: skip
        drawn = Portraits(images, batch, scoring.samples)
        bare = Portraits(images[:alone], batch[:alone], scoring.samples[:alone]) if alone else None
        model: Any = _Model(frozen)
        return measure(drawn, held_out, real, model, judge, metrics, 4, torch.device("cpu"), bare)

    measure_rows.real = real  # type: ignore[attr-defined]
    return measure_rows


def values(figures: dict[str, Any]) -> dict[str, float | None]:
    return {name: figure["value"] for name, figure in figures.items()}


def test_bounds_equal_the_scores_of_their_photos_as_portraits(measured, held_out) -> None:
    other = measured(lambda sample: sample.other)
    assert values(other["metrics"]) == values(other["bounds"]["real other photo"])
    following = {"300000": "300001", "300001": "300000"}
    target = {}
    measured(lambda sample: target.setdefault(sample.identity, sample.target))
    stranger = measured(lambda sample: target[following[sample.identity]])
    assert values(stranger["metrics"]) == values(stranger["bounds"]["another identity"])


def test_people_without_another_sound_photo_are_left_out_of_that_bound(
    measured, held_out, frozen, judge
) -> None:
    held_out.store.flawed = [row > 1 for row in range(7)] + [False] * 7
    scoring = ScoringSet(held_out, 2, RandomReference(), targets=1)
    assert [sample.other is None for sample in scoring.samples] == [True, False]
    ((batch, _),) = scoring.batches(100)
    drawn = Portraits(held_out.store.images([0, 7]), batch, scoring.samples)
    model: Any = _Model(frozen)
    figures = measure(
        drawn, held_out, measured.real, model, judge, {"sim_f": SimF()}, 4, torch.device("cpu")
    )
    assert list(figures["bounds"]["real other photo"]["sim_f"]["by_identity"]) == ["300001"]
    assert figures["metrics"]["sim_f"]["identities"] == 2


def test_the_regressors_own_error_is_that_of_the_targets_against_the_truth(
    measured, held_out, judge
) -> None:
    figures = measured(lambda sample: sample.target)
    bound = figures["bounds"]["regressor against truth"]
    assert list(bound) == ["exp", "pose"]
    rows = ScoringSet(held_out, 2, RandomReference(), targets=1).samples
    targets = [sample.target for sample in rows]
    true = held_out.store.true_coefficients(targets).pose[:, :3]
    seen = judge.view([held_out.store.images(targets)]).pose
    error = float((seen - true).square().mean(dim=1).sqrt().mean())
    assert bound["pose"]["value"] == pytest.approx(error, abs=1e-5)
    assert figures["metrics"]["pose"]["value"] == 0  # the target itself, by the same regressor


def test_a_copy_of_the_target_has_its_shading_and_the_light_s_own_error(measured, held_out) -> None:
    chosen = {"shading": Shading(), "light": LightAngle(load_light())}
    figures = measured(lambda sample: sample.target, **chosen)
    usual = measured(lambda sample: sample.target)
    assert values(usual["metrics"]).items() < values(figures["metrics"]).items()
    assert figures["metrics"]["shading"]["value"] == pytest.approx(1, abs=1e-5)
    light, bounds = figures["metrics"]["light"]["value"], figures["bounds"]
    own = bounds["regressor against truth"]["light"]["value"]
    assert light == pytest.approx(own, abs=1e-4)  # degrees
    assert abs(light - bounds["real other photo"]["light"]["value"]) > 1
    assert bounds["real other photo"]["shading"]["value"] < 0.99
    held_out.store.framing = ""  # as of real photos
    unknown = measured(lambda sample: sample.target, **chosen)
    assert unknown["metrics"]["light"]["value"] is None


def test_fid_and_deviations_are_of_people_who_are_not_scored(measured, judge) -> None:
    figures = measured(lambda sample: sample.target)
    real = measured.real
    assert figures["real_photos"] == 12
    population = judge.population([real.store.images(real.rows)])
    torch.testing.assert_close(
        population.deviation,
        judge.view([real.store.images(real.rows)]).expression.std(dim=0),
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip
    assert len(population.features) == 12


def test_distances_of_sets_are_left_out_of_bounds_whose_photos_repeat(
    held_out, frozen, judge, world_data
) -> None:
    # Two noises a target, so that each bound has every photo twice.
    scoring = ScoringSet(held_out, 2, RandomReference(), targets=1, noise_seeds=2)
    ((batch, _),) = scoring.batches(100)
    assert len({sample.target for sample in scoring.samples}) < len(scoring.samples)
    images = held_out.store.images([sample.target for sample in scoring.samples])
    real = world_data(real_photos=12).real_photos(frozen, scoring)
    figures = measure(
        Portraits(images, batch, scoring.samples), held_out, real, _Model(frozen), judge,
        {"sim_f": SimF(), "fid": Fid()}, 4, torch.device("cpu"),
    )  # fmt: skip
    assert set(figures["metrics"]) == {"sim_f", "fid"}
    assert len(figures["bounds"]) == 3
    assert all(set(bound) == {"sim_f"} for bound in figures["bounds"].values())


def test_intrusion_is_measured_on_the_samples_that_the_backbone_drew(measured) -> None:
    figures = measured(lambda sample: sample.target, alone=1)["metrics"]["intrusion"]
    assert (figures["samples"], figures["value"]) == (1, pytest.approx(1.0, abs=1e-5))
    assert measured(lambda sample: sample.target)["metrics"]["intrusion"]["value"] is None


def test_the_likeness_by_each_judge_is_on_record(measured) -> None:
    figures = measured(lambda sample: sample.other)["metrics"]
    first, second = (each["value"] for each in figures["spread"]["by_judge"])
    assert first == figures["sim_f"]["value"]
    assert second != first
    assert figures["spread"]["value"] >= 0


def test_fid_s_distance_is_of_the_pictures_to_the_real_photos(measured, judge, held_out) -> None:
    figures = measured(lambda sample: sample.other)
    rows = [each.other for each in ScoringSet(held_out, 2, RandomReference(), targets=1).samples]
    pictures = judge.view([held_out.store.images(rows)]).features.double().numpy()
    real = measured.real
    population = judge.population([real.store.images(real.rows)]).features.double().numpy()
    expected = frechet_distance(pictures, population)
    assert figures["metrics"]["fid"]["value"] == pytest.approx(expected, abs=1e-5)


def test_a_picture_is_drawn_with_the_calls_that_are_counted(
    held_out: PhotoSet, frozen: Frozen
) -> None:
    calls: list[int] = []
    hook = frozen.backbone.unet.register_forward_hook(lambda *_: calls.append(1))
    try:
        model: Any = _Model(frozen)
        scoring = ScoringSet(held_out, 2, RandomReference(), targets=1)
        cost = drawing_cost(
            backbone_alone(model), DDIM(2, 2.0), scoring, torch.device("cpu"), "32-true"
        )
    finally:
        hook.remove()
    assert cost.unet_calls == 4
    assert len(calls) == (1 + REPEATS) * 4
    assert cost.seconds > 0
    assert math.isnan(cost.gigabytes)
