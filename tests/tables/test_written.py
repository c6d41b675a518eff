"""Results of a table written and read, and the table in every format."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from making import declare, fill, people, result

from portraitlab.cli.main import main
from portraitlab.runs.files import DamagedFile
from portraitlab.tables.paper_readme import readme
from portraitlab.tables.paper_view import paper_view
from portraitlab.tables.results import (
    read_results,
    result_from,
    results_by_content,
)


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
