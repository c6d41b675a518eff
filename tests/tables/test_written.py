"""Results of a table written and read, and the table in every format."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from making import declare, fill, people, result

from portraitlab.app.cli.main import main
from portraitlab.support.files import DamagedFile
from portraitlab.support.table import Table
from portraitlab.tables.paper_readme import readme
from portraitlab.tables.paper_view import order_views, paper_view
from portraitlab.tables.results import (
    read_results,
    result_from,
    results_by_content,
)
from portraitlab.tables.writing import metric_name, unit


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
    with pytest.raises(DamagedFile, match=r"best-2\.json is damaged \(scoring: Field required"):
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
    assert "middle, seed 0: the loss is not finite" in view.notes


def test_the_order_of_rows_is_judged_in_tables_of_their_own(tmp_path: Path) -> None:
    table = declare(tmp_path)
    found = [
        *(result("worst", seed, people(0.1 + seed / 10)) for seed in (0, 1)),
        result("middle", 0, people(0.05)),
        result("best", 0, people(0.5)),
    ]
    orders, neighbours = order_views(table, found)
    assert list(orders.rows[0]) == [
        *("score", "not the paper's", "+0.333", "[+0.333, +0.333]", "people, seed 0 alone"),
        *("3", "2", "1", "0"),
    ]
    # 0.05 is below 0.1, so that the score has four digits and the error three.
    assert list(neighbours.rows) == [
        ["score", "best", "middle", "+0.4500", "[+0.4500, +0.4500]", "as the paper"],
        ["score", "middle", "worst", "−0.0500", "[−0.0500, −0.0500]", "reversed"],
        ["error", "best", "middle", "+0.450", "[+0.450, +0.450]", "as the paper"],
        ["error", "middle", "worst", "−0.050", "[−0.050, −0.050]", "reversed"],
    ]
    assert order_views(table, found[:2]) == []
    for each in found:
        del each.content["metrics"]["score"]["by_identity"]
    orders, neighbours = order_views(table, found)
    assert list(orders.rows[0][3:]) == ["none", "seed 0 alone", "3", "0", "0", "3"]
    assert neighbours.rows[0][-2:] == ["none", "not separated"]
    assert orders.notes[-1].startswith("score: one value for all people")


def test_rows_of_no_paper_are_compared_with_the_best(tmp_path: Path) -> None:
    rows = {
        name: {"overrides": {"fusion": name}, "paper": {}} for name in ("concat", "mlp", "mixer")
    }
    table = declare(tmp_path, rows=rows)
    figures = {"concat": (0.2, 0.3), "mlp": (0.7, 0.6), "mixer": (0.71, 0.58)}
    found = [
        result(name, seed, {"a": a + seed / 100, "b": b + seed / 100, "c": (a + b) / 2})
        for name, (a, b) in figures.items()
        for seed in (0, 1, 2)
    ]
    (view,) = order_views(table, found)
    assert [row[:3] for row in view.rows] == [
        ["score", "mlp", "mixer"],
        ["score", "mlp", "concat"],
        ["error", "mlp", "mixer"],
        ["error", "mlp", "concat"],
    ]
    assert [row[-1] for row in view.rows] == ["no", "yes", "no", "yes"]
    # The lead is the mean over people and seeds, positive for an error too.
    assert view.rows[1][3] == f"+{0.65 - 0.25:.3f}"
    assert all(row[3].startswith("+") for row in view.rows)
    low, high = (float(end.replace("−", "-")) for end in view.rows[3][4].strip("[]").split(", "))
    assert 0 < low < high
    assert table.question == "Which rows differ?"


def test_a_numeric_row_keeps_its_number(tmp_path: Path) -> None:
    rows = {
        name: {"overrides": {"refs": name}, "paper": {"score": value}}
        for name, value in (("1", 64.8), ("2", 65.0))
    }
    table = declare(tmp_path, seeds=(0,), heading="references", rows=rows)
    found = [result("1", 0, people(0.2)), result("2", 0, people(0.3))]
    assert [row[2] for row in paper_view(table, found).rows] == ["64.8", "**65.0**"]
    _, neighbours = order_views(table, found)
    assert list(neighbours.rows[0][1:3]) == ["references 2", "references 1"]


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


def test_csv_has_a_number_in_each_cell_and_a_name_of_its_own_for_each_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = declare(tmp_path)
    fill(table, {"best": {0: people(0.3), 2: people(0.4)}, "worst": {1: people(0.1)}})
    assert main(["table", str(tmp_path), "--format", "csv"]) == 0
    worst, middle, best = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert best == {
        **{"row": "best", "seeds": "2"},
        **{"score": "0.35", "score deviation": "0.0707107", "score paper": "30"},
        **{"error": "0.65", "error deviation": "0.0707107", "error paper": "70"},
    }
    assert (worst["seeds"], worst["score"], worst["score deviation"]) == ("1", "0.1", "")
    assert (middle["seeds"], middle["score"], middle["score paper"]) == ("0", "", "20")


def test_a_line_of_latex_is_not_read_as_the_end_of_the_line_above() -> None:
    written = Table(["a"], [["[1]"], ["*2*"], ["x | −1"]]).latex()
    assert "{}[1] \\\\\n{}*2* \\\\\nx \\textbar{} $-$1 \\\\\n" in written


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
    for name in ("md", "latex", "html"):
        assert main(["table", str(tmp_path), "--format", name]) == 0
        written[name] = capsys.readouterr().out
    parser = _Cells()
    parser.feed(written["html"])
    # The paper prints no error, so that there is no column of it.
    assert parser.cells[:8] == [
        *("row", "score ↑", "paper", "error ↓"),
        *("a & b_1", "0.100", "1", "0.900"),
    ]
    # The table, then the orders, then the neighbours.
    assert written["html"].count("<table>") == written["latex"].count(r"\toprule") == 3
    assert written["md"].count("\n| --- ") == 3
    assert r"a \& b\_1 & 0.100 & 1 & 0.900 \\" in written["latex"]
    assert r"\textless{}50 \%\textgreater{} & \textbf{0.200} & \textbf{2}" in written["latex"]
    assert r"$-$" in written["latex"]
    assert "| <50 %> | **0.200** | **2** | **0.800** |" in written["md"]


def test_a_document_has_the_table_between_its_marks_and_nothing_else_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = declare(tmp_path)
    fill(table, {"best": {0: people(0.3)}})
    page = tmp_path / "page.md"
    start, end = f"# Page\n\n<!-- {table.name} -->\n", f"<!-- end of {table.name} -->\n\nMore.\n"
    page.write_text(f"{start}old\n{end}")
    written = start + paper_view(table, read_results(table)).markdown() + end
    for _ in range(2):
        assert main(["table", str(tmp_path), "--document", str(page)]) == 0
        assert page.read_text() == written
    assert "| best | 0.300 | " in written
    page.write_text(start)
    assert main(["table", str(tmp_path), "--document", str(page)]) == 1
    assert f"{page}: the document needs the lines <!-- {table.name} -->" in capsys.readouterr().err
    assert page.read_text() == start
    assert main(["table", str(tmp_path), "--document", str(tmp_path / "no.md")]) == 1
    assert f"there is no document {tmp_path / 'no.md'}" in capsys.readouterr().err
    assert not (tmp_path / "no.md").exists()


def test_the_readme_has_the_origin_of_each_result(tmp_path: Path) -> None:
    table = declare(tmp_path)
    fill(table, {"best": {0: people(0.3)}})
    text = readme(table, read_results(table))
    assert f"    {table.command}\n" in text
    assert "All rows: `system=hifi_portrait budget=full`, seeds 0, 1, 2." in text
    assert "- **score**, higher is better: cosine.\n- **error**, lower is better: cosine.\n" in text
    assert "Is it the paper's order?" not in text
    made = "012345678, torch 2.15.0, a processor, 2 cores"
    line = f"| best | 0 | fusion=best | best0 | 1.5 min | not written down | 0.5 min | {made} |"
    assert line in text
    fill(table, {"worst": {0: people(0.1)}})
    text = readme(table, read_results(table))
    assert "## Is it the paper's order?\n\n| metric | order of rows |" in text


def test_metrics_of_matching_are_named_by_their_views() -> None:
    assert metric_name("error_30") == "Error, 30°"
    assert metric_name("face_error_12.5_of_20") == "Face error, 12.5°, 20 % of pixels"
    assert metric_name("within_2_45") == "Within 2, 45°"
    assert (unit("error_30"), unit("within_2_45")) == ("cells", "share of cells")
    assert metric_name("shading_error") == "Shading error"
