"""Compare the order of a table's rows with the paper's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import PEOPLE, declare, people, result
from scipy.stats import kendalltau

from portraitlab.tables.comparison import Comparison, compare, kendall_tau, spread, student
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result


def results(means: dict[str, float], noise: float = 0.0, seeds: int = 3) -> list[Result]:
    """People are hard or easy alike in all rows, and every training is a little different."""
    hard = people(0.0, 0.1)
    rng = np.random.default_rng(1)
    found = []
    for row, mean in means.items():
        for seed in range(seeds):
            luck = rng.normal(0, noise)
            found.append(result(row, seed, {name: mean + luck + hard[name] for name in PEOPLE}))
    return found


def compared(table: PaperTable, found: list[Result], name: str = "score") -> Comparison:
    comparison = compare(table, found, name, resamples=200)
    assert comparison is not None
    return comparison


def test_the_papers_order_is_found_and_its_reverse(tmp_path: Path) -> None:
    table = declare(tmp_path)
    same = compared(table, results({"worst": 0.1, "middle": 0.2, "best": 0.3}, noise=0.005))
    assert (same.tau.value, same.tau.between) == (pytest.approx(1.0), (1.0, 1.0))
    assert same.order == "the paper's"
    assert same.varies == ("people", "seeds")
    assert {pair.standing for pair in same.pairs} == {"as the paper"}
    neighbours = {(pair.better, pair.other) for pair in same.pairs if pair.neighbours}
    assert neighbours == {("middle", "worst"), ("best", "middle")}
    turned = compared(table, results({"worst": 0.3, "middle": 0.2, "best": 0.1}, noise=0.005))
    assert turned.tau.value == pytest.approx(-1.0)
    assert turned.order == "not the paper's"
    assert {pair.standing for pair in turned.pairs} == {"reversed"}


def test_a_metric_that_is_better_lower_is_turned(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = results({"worst": 0.1, "middle": 0.2, "best": 0.3}, noise=0.005)
    assert compared(table, found, "error").order == "the paper's"
    (lead,) = [
        pair.lead.value
        for pair in compared(table, found, "error").pairs
        if (pair.better, pair.other) == ("best", "worst")
    ]
    assert lead == pytest.approx(0.2, abs=0.02)


def test_a_difference_that_seeds_swallow_is_not_separated(tmp_path: Path) -> None:
    table = declare(tmp_path)
    comparison = compared(table, results({"worst": 0.1, "middle": 0.3, "best": 0.31}, noise=0.02))
    standings = {(pair.better, pair.other): pair.standing for pair in comparison.pairs}
    assert standings[("best", "middle")] == "not separated"
    assert standings[("best", "worst")] == "as the paper"
    # The means alone have the paper's order, which two rows may have by chance.
    assert comparison.tau.value == pytest.approx(1.0)
    assert comparison.order == "undecided"


def test_people_that_are_hard_in_all_rows_do_not_hide_a_difference(tmp_path: Path) -> None:
    table = declare(tmp_path)
    # Between people it is 0.1, between rows 0.005, and the same for everyone.
    found = results({"worst": 0.1, "middle": 0.105, "best": 0.11}, seeds=1)
    comparison = compared(table, found)
    assert comparison.varies == ("people",)
    assert comparison.tau.between == (1.0, 1.0)


def test_without_people_and_seeds_nothing_is_separated(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = results({"worst": 0.1, "middle": 0.2, "best": 0.3}, seeds=1)
    for each in found:
        del each.content["metrics"]["score"]["by_identity"]
    comparison = compared(table, found)
    assert comparison.varies == ()
    assert comparison.tau.between is None
    assert {pair.standing for pair in comparison.pairs} == {"not separated"}


def test_rows_are_compared_over_the_seeds_that_all_have(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = results({"worst": 0.1, "middle": 0.2, "best": 0.3}, noise=0.005)
    fewer = [each for each in found if each.row != "best" or each.seed == 2]
    comparison = compared(table, fewer)
    assert len(comparison.pairs) == 3
    assert comparison.seeds == (2,)
    assert comparison.varies == ("people",)
    assert compare(table, [each for each in found if each.row == "best"], "score") is None


def test_an_interval_of_three_trainings_has_its_coverage() -> None:
    """Trainings, people and what a training makes of a person are all drawn 500 times."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(500):
        trainings, persons = rng.normal(0, 0.05, (3, 1)), rng.normal(0, 0.06, (1, 40))
        between = student(0.2 + trainings + persons + rng.normal(0, 0.06, (3, 40))).between
        assert between is not None
        inside += between[0] < 0.2 < between[1]
    # Three standard errors below 0.95; a bootstrap of three trainings comes to 0.8.
    assert inside / 500 > 0.92


def test_an_interval_of_one_training_is_students_over_people() -> None:
    values = np.array([[0.1, 0.3, 0.5, 0.4]])
    reach = 3.182 * np.std(values, ddof=1) / 2  # Student's quantile for three degrees of freedom
    assert student(values).between == pytest.approx((0.325 - reach, 0.325 + reach), abs=1e-4)
    assert student(values[:, :1]).between is None


def test_the_spread_is_over_seeds() -> None:
    one, two = result("best", 0, {"a": 0.1, "b": 0.3}), result("best", 1, {"a": 0.3, "b": 0.5})
    assert spread([one, two], "score") == (pytest.approx(0.3), pytest.approx(0.02**0.5))
    assert spread([one], "score") == (pytest.approx(0.2), None)
    assert spread([one], "fid") is None


def test_a_metric_of_all_people_together_has_the_interval_of_few_seeds(tmp_path: Path) -> None:
    table = declare(tmp_path)
    by_seed = {"worst": (0.1, 0.11, 0.1), "middle": (0.2, 0.2, 0.2), "best": (0.202, 0.206, 0.216)}
    found = [
        result(row, seed, people(value))
        for row, values in by_seed.items()
        for seed, value in enumerate(values)
    ]
    for each in found:
        del each.content["metrics"]["score"]["by_identity"]
    comparison = compared(table, found)
    assert (comparison.varies, comparison.seeds) == (("seeds",), (0, 1, 2))
    assert comparison.tau.between is None
    standings = {(pair.better, pair.other): pair for pair in comparison.pairs}
    assert standings["middle", "worst"].standing == "as the paper"
    # All three seeds agree, which they do by chance in one of four.
    assert standings["best", "middle"].standing == "not separated"
    # 4.303: Student's quantile for two degrees of freedom, as it is printed.
    reach = 4.303 * np.std([0.002, 0.006, 0.016], ddof=1) / 3**0.5
    between = standings["best", "middle"].lead.between
    assert between == pytest.approx((0.008 - reach, 0.008 + reach), abs=1e-5)


def test_tau_of_each_resample_is_scipys_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    drawn, paper = (
        rng.integers(0, 4, (50, 6)).astype(float),
        np.array([5.0, 4.0, 4.0, 2.0, 1.0, 0.0]),
    )
    expected = [kendalltau(each, paper).statistic for each in drawn]
    assert kendall_tau(drawn, paper) == pytest.approx(expected)
    assert np.isnan(kendall_tau(np.ones(6), paper))


def test_the_interval_of_tau_is_of_resampled_seeds_and_people(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = [
        result(row, seed, people(mean, 0.5, seed=number + 10 * seed))
        for number, (row, mean) in enumerate({"best": 0.3, "middle": 0.25, "worst": 0.2}.items())
        for seed in range(3)
    ]
    values = np.array(
        [
            [
                [each.metrics["score"]["by_identity"][name] for name in sorted(PEOPLE)]
                for each in found
                if each.row == row
            ]
            for row in ("best", "middle", "worst")
        ]
    )
    rng, taus = np.random.default_rng(0), []
    for _ in range(200):
        chosen = values[:, rng.integers(3, size=3)][:, :, rng.integers(len(PEOPLE), size=40)]
        taus.append(kendalltau(chosen.mean(axis=(1, 2)), [3, 2, 1]).statistic)
    assert len(set(taus)) > 2
    comparison = compared(table, found)
    assert comparison.tau.between == pytest.approx(np.percentile(taus, [2.5, 97.5]))


def test_two_rows_are_compared_and_one_is_not(tmp_path: Path) -> None:
    table = declare(tmp_path)
    two = results({"worst": 0.1, "best": 0.3}, noise=0.005)
    assert compared(table, two).order == "the paper's"
    assert compare(table, [each for each in two if each.row == "best"], "score") is None
