"""How the order of a table's rows is judged against the paper's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import PEOPLE, declare, people, result

from portraitlab.tables.comparison import Comparison, compare, spread
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
    assert same.same_order
    assert same.varies == ("people", "seeds")
    assert {pair.standing for pair in same.pairs} == {"as the paper"}
    neighbours = {(pair.better, pair.other) for pair in same.pairs if pair.neighbours}
    assert neighbours == {("middle", "worst"), ("best", "middle")}
    turned = compared(table, results({"worst": 0.3, "middle": 0.2, "best": 0.1}, noise=0.005))
    assert turned.tau.value == pytest.approx(-1.0)
    assert not turned.same_order
    assert {pair.standing for pair in turned.pairs} == {"reversed"}


def test_a_metric_that_is_better_lower_is_turned(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = results({"worst": 0.1, "middle": 0.2, "best": 0.3}, noise=0.005)
    assert compared(table, found, "error").same_order
    (lead,) = [
        pair.lead.value
        for pair in compared(table, found, "error").pairs
        if (pair.better, pair.other) == ("best", "worst")
    ]
    assert lead == pytest.approx(0.2, abs=0.02)


def test_a_difference_that_seeds_swallow_is_not_separated(tmp_path: Path) -> None:
    table = declare(tmp_path)
    means = {"worst": 0.1, "middle": 0.2, "best": 0.201}
    standings = {
        (pair.better, pair.other): pair.standing
        for pair in compared(table, results(means, noise=0.02)).pairs
    }
    assert standings[("best", "middle")] == "not separated"
    assert standings[("best", "worst")] == "as the paper"


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


def test_the_interval_is_that_of_a_plain_bootstrap(tmp_path: Path) -> None:
    """A slow bootstrap, written out, over people and seeds."""
    table = declare(tmp_path)
    found = results({"worst": 0.1, "middle": 0.13, "best": 0.16}, noise=0.02)
    comparison = compare(table, found, "score", resamples=2000)
    assert comparison is not None
    (pair,) = [each for each in comparison.pairs if (each.better, each.other) == ("best", "worst")]
    by_row: dict[str, list[dict[str, float]]] = {}
    for each in found:
        by_row.setdefault(each.row, []).append(each.metrics["score"]["by_identity"])
    rng = np.random.default_rng(5)
    leads = []
    for _ in range(2000):
        seeds, names = rng.integers(3, size=3), rng.choice(PEOPLE, len(PEOPLE))
        mean = {
            row: np.mean([by_row[row][seed][name] for seed in seeds for name in names])
            for row in ("best", "worst")
        }
        leads.append(mean["best"] - mean["worst"])
    assert pair.lead.between == pytest.approx(tuple(np.percentile(leads, [2.5, 97.5])), abs=0.004)


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
