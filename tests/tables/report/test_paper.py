"""The page of a paper's table: alone from its results, and at the head of a sweep's page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from written import FOUR, write_sweep
from written_table import declared, write_results

from portraitlab.app.cli.main import main
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.report.page import table_page

Opened = Callable[..., webdriver.Chrome]


@pytest.fixture
def table(tmp_path: Path) -> PaperTable:
    return write_results(declared(tmp_path / "paper" / "table2", seeds=(0, 1)))


@pytest.mark.slow
def test_a_table_s_page_has_ours_the_paper_s_and_the_figures(
    table: PaperTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(table.folder)]) == 0
    assert capsys.readouterr().out == f"report: {table.folder / 'report.html'}\n"
    text = (table.folder / "report.html").read_text()
    for row in table.rows:
        assert f"<td>{row.name}</td>" in text
    assert "<td><b>65.2</b></td>" in text
    assert "Kendall&#x27;s tau" in text
    assert len(re.findall(r'<img src="data:image/svg\+xml;base64,', text)) == 3
    assert len(re.findall(r'<img src="data:image/png;base64,', text)) == 1
    assert "<script" not in text
    assert "script-src &#x27;none&#x27;" in text


def test_a_table_without_results_has_a_page_too(tmp_path: Path) -> None:
    table = declared(tmp_path / "table2")
    text = table_page(table)
    assert "There are no results yet." in text
    assert "12 of 12 results are missing." in text


def test_a_damaged_result_is_one_message(
    table: PaperTable, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table.folder / "results" / "concat-0.json"
    path.write_text("{")
    assert main(["report", str(table.folder)]) == 1
    assert capsys.readouterr().err.startswith(f"{path} is damaged")


@pytest.mark.slow
def test_a_sweep_with_a_table_of_its_own_begins_with_it(tmp_path: Path) -> None:
    place = write_sweep(tmp_path / "runs", FOUR)
    write_results(declared(place, seeds=(0,)))
    assert main(["report", str(place)]) == 0
    text = (place / "report.html").read_text()
    parts = re.findall(r'<section id="(\w+)"', text)
    assert parts[:5] == ["paper", "order", "figures", "made", "results"]
    assert all(f'href="#{name}"' in text for name in parts)


@pytest.mark.slow
def test_it_opens_in_a_browser_and_asks_for_nothing(table: PaperTable, opened: Opened) -> None:
    assert main(["report", str(table.folder)]) == 0
    for width in (375, 1600):
        browser = opened(table.folder / "report.html", width, 800)
        assert browser.find_element(By.TAG_NAME, "h1").text == table.title
        drawn = "return [...document.images].map((image) => image.naturalWidth > 100)"
        assert browser.execute_script(drawn) == [True] * 4
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.get_log("browser") == []
