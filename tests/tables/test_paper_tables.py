"""A paper's table: what it declares, what a command asks of it, and how its order is judged."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from making import PAPER, declare, fill, result

from portraitlab.cli.main import main
from portraitlab.runs.files import DamagedFile
from portraitlab.runs.key import decisive
from portraitlab.runs.run import Run
from portraitlab.tables.choosing import choose
from portraitlab.tables.comparison import Comparison, compare, spread
from portraitlab.tables.composing import composed, declared_arguments, declared_run
from portraitlab.tables.figures.drawing import figures
from portraitlab.tables.paper_readme import readme
from portraitlab.tables.paper_table import CONF, EXPERIMENTS, PaperTable, find_table, known_tables
from portraitlab.tables.paper_view import paper_view
from portraitlab.tables.results import (
    Result,
    read_results,
    result_from,
    result_path,
    results_by_content,
)

PEOPLE = [str(number) for number in range(40)]


def people(mean: float, noise: float = 0.0, seed: int = 0) -> dict[str, float]:
    drawn = np.random.default_rng(seed).normal(mean, noise, len(PEOPLE))
    return dict(zip(PEOPLE, drawn.tolist(), strict=True))


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


# What is declared


@pytest.mark.parametrize("name", known_tables())
def test_every_table_is_declared_where_run_py_knows_it(name: str) -> None:
    table = find_table(name)
    assert table.name == name
    choice = yaml.safe_load((CONF / "table" / f"{name}.yaml").read_text())
    assert choice["hydra"]["sweeper"]["table"] == name
    for row in table.rows:
        assert row.paper.keys() <= table.columns.keys()


def test_run_py_knows_every_table_that_is_declared() -> None:
    declared = {
        f"{path.parents[1].name}/{path.parent.name}"
        for path in EXPERIMENTS.glob("*/*/table.yaml")
        if "columns" in yaml.safe_load(path.read_text())
    }
    assert declared == set(known_tables())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"columns": {"score": "sideways"}}, "'sideways' is missing or unknown"),
        ({"columns": {"error": "down"}}, "row 'worst' has figures of score, no column"),
        ({"seeds": ["one"]}, "invalid literal"),
        ({"rows": None}, "NoneType"),
        (
            {
                "rows": {
                    "a": {"overrides": {"fusion": "x"}, "paper": {}},
                    "b": {"overrides": {"cond": "x"}, "paper": {}},
                }
            },
            "row 'b' sets cond, and row 'a' fusion; every row must name the same settings",
        ),
        (
            {
                "rows": {
                    "a": {"overrides": {"fusion": "x"}, "paper": {}},
                    "b": {"overrides": {"fusion": "x"}, "paper": {}},
                }
            },
            "two rows have the same settings",
        ),
        (
            {
                "rows": {
                    "a & b": {"overrides": {"fusion": "x"}, "paper": {}},
                    "a, b": {"overrides": {"fusion": "y"}, "paper": {}},
                }
            },
            "two rows have the same file names",
        ),
    ],
)
def test_a_wrong_declaration_says_where(tmp_path: Path, changed: dict, said: str) -> None:
    with pytest.raises(ValueError, match=r"table\.yaml: .*") as raised:
        declare(tmp_path, **changed)
    assert said in str(raised.value)


def test_a_declaration_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = declare(tmp_path / "papers" / "table1")
    assert table.name == "papers/table1"
    assert table.command == "python run.py table=papers/table1"
    (table.folder / "table.yaml").write_text(table.declaration())
    assert PaperTable.read(table.folder) == table


def test_an_unknown_table_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no table 'hifi/table9'.*hifi_portrait/table2"):
        find_table("hifi/table9")
    with pytest.raises(ValueError, match=r"holds no table: table\.yaml is not there"):
        PaperTable.read(tmp_path)


# What a command asks for


def test_all_rows_and_seeds_are_jobs(tmp_path: Path) -> None:
    table = declare(tmp_path)
    jobs = choose(table, ["table=x"])
    assert [(job.row.name, job.seed) for job in jobs] == [
        (row, seed) for row in PAPER for seed in (0, 1, 2)
    ]
    assert jobs[4].overrides == (
        *("table=x", "system=hifi_portrait", "budget=full"),
        *("fusion=middle", "seed=1"),
    )


def test_what_tells_rows_apart_narrows_and_the_rest_is_set_in_all(tmp_path: Path) -> None:
    table = declare(tmp_path)
    jobs = choose(table, ["table=x", "fusion=best,worst", "seed=1", "budget=default", "jobs=2"])
    assert [(job.row.name, job.seed) for job in jobs] == [("worst", 1), ("best", 1)]
    assert jobs[0].overrides == (
        *("table=x", "budget=default", "jobs=2", "system=hifi_portrait"),
        *("fusion=worst", "seed=1"),
    )


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("fusion=other", r"fusion=other: no row of table=.* there are fusion=worst, fusion=middle"),
        ("budget=full,default", "budget=full,default: several values .* only seed and .*fusion"),
        ("seed=some", "seed=some: a seed is a whole number"),
    ],
)
def test_what_the_table_has_not_is_refused(tmp_path: Path, argument: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose(declare(tmp_path), ["table=x", argument])


# How its order is judged


def test_the_papers_order_is_found_and_its_reverse(tmp_path: Path) -> None:
    table = declare(tmp_path)
    same = compared(table, results({"worst": 0.1, "middle": 0.2, "best": 0.3}, noise=0.005))
    assert (same.tau.value, same.tau.between) == (pytest.approx(1.0), (1.0, 1.0))
    assert same.same_order
    assert same.resampled == ("people", "seeds")
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
    assert comparison.resampled == ("people",)
    assert comparison.tau.between == (1.0, 1.0)


def test_without_people_and_seeds_nothing_is_separated(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = results({"worst": 0.1, "middle": 0.2, "best": 0.3}, seeds=1)
    for each in found:
        del each.content["metrics"]["score"]["by_identity"]
    comparison = compared(table, found)
    assert comparison.resampled == ()
    assert comparison.tau.between is None
    assert {pair.standing for pair in comparison.pairs} == {"not separated"}


def test_rows_are_compared_over_the_seeds_that_all_have(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = results({"worst": 0.1, "middle": 0.2, "best": 0.3}, noise=0.005)
    fewer = [each for each in found if each.row != "best" or each.seed == 2]
    comparison = compared(table, fewer)
    assert len(comparison.pairs) == 3
    assert comparison.resampled == ("people",)
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


# What is written and read


def test_results_are_read_back_by_row_seed_and_content(tmp_path: Path) -> None:
    table = declare(tmp_path)
    fill(table, {"best": {0: people(0.3), 2: people(0.4)}, "worst": {1: people(0.1)}})
    assert [(each.row, each.seed) for each in read_results(table)] == [
        *(("worst", 1), ("best", 0), ("best", 2))
    ]
    found = results_by_content([tmp_path])
    assert set(found) == {("worst1", "s"), ("best0", "s"), ("best2", "s")}
    again = declare(tmp_path / "again")
    fill(again, {"best": {0: people(0.5)}})
    assert results_by_content([tmp_path, again.folder]) == found
    shared = result_from(found["best0", "s"], again.rows[0])
    assert (shared.row, shared.seed, shared.content["row"]) == ("worst", 0, "worst")
    (tmp_path / "results" / "best-2.json").write_text("{}")
    with pytest.raises(DamagedFile, match=r"best-2\.json is damaged \(it lacks row, seed, key"):
        read_results(table)


def test_ours_stand_beside_the_papers_with_the_best_in_bold(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = [
        *(result("worst", seed, {"a": 0.1 + seed / 10, "b": 0.1 + seed / 10}) for seed in (0, 1)),
        result("best", 0, {"a": 0.5, "b": 0.5}),
    ]
    view = paper_view(table, found, {("middle", 0): "the loss is not finite"})
    assert list(view.columns) == ["row", "score ↑", "paper", "error ↓", "paper"]
    assert list(view.rows) == [
        ["worst", "0.150 ±0.071", "10", "0.850 ±0.071", "90"],
        ["middle", "missing", "20", "missing", "80"],
        ["best", "**0.500**", "**30**", "**0.500**", "**70**"],
    ]
    assert "5 of 9 results are missing." in view.notes
    assert view.notes[-2].startswith("score: the order is the paper's; Kendall's tau +1.000")
    assert "best − worst +0.400 [+0.400, +0.400] as the paper." in view.notes[-2]
    assert "middle, seed 0: the loss is not finite" in view.notes


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("td", "th"):
            self._inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


def test_every_format_has_the_same_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {
        "a & b_1": {"overrides": {"fusion": "a"}, "paper": {"score": 1}},
        "<50 %>": {"overrides": {"fusion": "b"}, "paper": {"score": 2}},
    }
    table = declare(tmp_path, rows=rows)
    fill(table, {name: {0: people(0.1 * (number + 1))} for number, name in enumerate(rows)})
    written = {}
    for name in ("md", "csv", "latex", "html"):
        assert main(["table", str(tmp_path), "--format", name]) == 0
        written[name] = capsys.readouterr().out
    cells = [cell for line in csv.reader(io.StringIO(written["csv"])) for cell in line]
    assert cells[:10] == [
        *("row", "score ↑", "paper", "error ↓", "paper"),
        *("a & b_1", "0.100", "1", "0.900", ""),
    ]
    parser = _Cells()
    parser.feed(written["html"])
    assert parser.cells == cells
    assert r"a \& b\_1 & 0.100 & 1 & 0.900 &  \\" in written["latex"]
    assert r"<50 \%> & \textbf{0.200} & \textbf{2}" in written["latex"]
    assert "| <50 %> | **0.200** | **2** | **0.800** |  |" in written["md"]


def test_the_readme_says_what_made_each_result(tmp_path: Path) -> None:
    table = declare(tmp_path)
    fill(table, {"best": {0: people(0.3)}})
    text = readme(table, read_results(table))
    assert f"    {table.command}\n" in text
    assert "All rows: `system=hifi_portrait budget=full`, seeds 0, 1, 2." in text
    made = "012345678, torch 2.15.0, a processor, 2 cores"
    line = f"| best | 0 | fusion=best | best0 | 1.5 min | not written down | 0.5 min | {made} |"
    assert line in text


# What is committed


@pytest.mark.parametrize("name", known_tables())
def test_every_declared_row_is_a_run_of_its_own(name: str) -> None:
    table = find_table(name)
    runs = [declared_run(table, row, table.seeds[0]) for row in table.rows]
    assert len({(run.key, run.scoring) for run in runs}) == len(table.rows)


@pytest.mark.parametrize("name", known_tables())
def test_a_committed_result_is_of_a_declared_row_as_it_is_declared(name: str) -> None:
    table = find_table(name)
    files = set((table.folder / "results").glob("*.json"))
    for row in table.rows:
        for seed in table.seeds:
            path = result_path(table.folder, row, seed)
            if path not in files:
                continue
            files.remove(path)
            content = json.loads(path.read_text())
            settings = composed(declared_arguments(table, row, seed))
            run = Run.of(settings)
            assert (content["row"], content["seed"]) == (row.name, seed)
            assert (content["key"], content["scoring"]) == (run.key, run.scoring), path
            assert content["settings"] == json.loads(json.dumps(decisive(settings)))
            assert not [name for name in table.columns if name not in content["metrics"]]
    assert not files, "results of no declared row"


@pytest.mark.slow
@pytest.mark.parametrize("name", known_tables())
def test_a_committed_readme_is_what_its_results_say(name: str) -> None:
    table = find_table(name)
    results = read_results(table)
    written = table.folder / "README.md"
    if results:
        drawn = figures(table, results)
        assert written.read_text() == readme(table, results, drawn), (
            f"run portraitlab table {name} --figures"
        )
        kept = {path.name for path in (table.folder / "figures").iterdir()}
        assert kept == {f"{each.name}.{form}" for each in drawn for form in each.forms}
    else:
        assert not written.exists()
