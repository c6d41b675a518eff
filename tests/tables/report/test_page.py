"""The page in a real Chromium: it opens from its file alone, sorts, filters and draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait
from written import FOUR, Given, write_sweep

from portraitlab.app.cli.main import main

Opened = Callable[..., webdriver.Chrome]


@pytest.fixture
def made(sweep: Path) -> Path:
    assert main(["report", str(sweep)]) == 0
    return sweep / "report.html"


def rows(browser: webdriver.Chrome) -> list[int]:
    """List the numbers of the rows that the table shows, from the top."""
    lines = browser.find_elements(By.CSS_SELECTOR, "#rows tr")
    return [int(line.get_attribute("data-row")) for line in lines if line.is_displayed()]


def heading(
    browser: webdriver.Chrome, name: str
) -> tuple[webdriver.remote.webelement.WebElement, str]:
    """Find a heading's button and its direction."""
    for cell in browser.find_elements(By.CSS_SELECTOR, "#results-table thead th"):
        button = cell.find_element(By.TAG_NAME, "button")
        if button.text.startswith(name):
            return button, cell.get_attribute("aria-sort")
    raise AssertionError(f"no heading {name}")


def traces(browser: webdriver.Chrome, chart: str) -> list[str]:
    return browser.execute_script(
        "return document.getElementById(arguments[0]).data.map((trace) => trace.name)", chart
    )


def says_nothing(browser: webdriver.Chrome) -> None:
    assert browser.get_log("browser") == []


def test_it_opens_from_a_file_and_asks_for_nothing_else(made: Path, opened: Opened) -> None:
    browser = opened(made)
    assert browser.find_element(By.TAG_NAME, "h1").text == "fusion-cond"
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requested if not url.startswith("data:")] == [made.as_uri()]
    says_nothing(browser)
    assert browser.execute_script("return window.attacked") is None
    images = "return [...document.images].every((image) => image.naturalWidth === 4)"
    assert browser.execute_script(images)


def test_charts_are_drawn(made: Path, opened: Opened) -> None:
    browser = opened(made)
    for chart in ("scores-chart", "parallel-chart", "curves-chart"):
        drawn = browser.find_element(By.ID, chart).find_elements(By.CSS_SELECTOR, ".scatter .point")
        assert drawn, chart
    scored = ["1: refiner · landmarks", "2: refiner · keypoints", "4: concat · keypoints"]
    assert traces(browser, "scores-chart") == [*scored, "autoencoder round trip"]
    assert traces(browser, "parallel-chart") == scored
    assert len(traces(browser, "curves-chart")) == len(FOUR)
    bars = browser.find_elements(By.CSS_SELECTOR, "#scores-chart .errorbar path.xerror")
    assert len(bars) == 4
    Select(browser.find_element(By.ID, "metric")).select_by_value("exp")
    # The last row's exp was not measured.
    assert traces(browser, "scores-chart") == [*scored[:2], "autoencoder round trip"]
    assert "Lower is better" in browser.find_element(By.ID, "method").text
    assert browser.find_element(By.CSS_SELECTOR, ".score").text == "exp 0.100"
    Select(browser.find_element(By.ID, "loss")).select_by_value("train/noise")
    values = "return Array.from(document.getElementById('curves-chart').data[0].y)"
    assert browser.execute_script(values)[0] == 0.5
    says_nothing(browser)


def test_headings_sort_and_say_which_way(made: Path, opened: Opened) -> None:
    browser = opened(made)
    assert rows(browser) == [1, 2, 3, 4]
    # The best first, then the other way; a row without a figure stays last.
    for direction, order in (("descending", [4, 1, 2, 3]), ("ascending", [2, 1, 4, 3])):
        heading(browser, "sim_f")[0].click()
        assert heading(browser, "sim_f")[1] == direction
        assert rows(browser) == order
    button, direction = heading(browser, "exp")
    assert direction == "none"
    button.send_keys(Keys.ENTER)
    assert heading(browser, "exp")[1] == "ascending"
    assert heading(browser, "sim_f")[1] == "none"
    assert rows(browser) == [1, 2, 3, 4]
    heading(browser, "fusion")[0].click()
    assert rows(browser) == [3, 4, 1, 2]
    assert traces(browser, "parallel-chart")[0].startswith("4")
    pictures = browser.find_elements(By.CSS_SELECTOR, ".drawn")[0]
    drawn = pictures.find_elements(By.TAG_NAME, "figure")
    assert [figure.get_attribute("data-row") for figure in drawn] == ["4", "1", "2"]
    bound = browser.find_elements(By.CSS_SELECTOR, "#results-table tr")[-1]
    assert bound.text.startswith("autoencoder round trip")


def test_numbers_sort_as_numbers(tmp_path: Path, opened: Opened) -> None:
    rates = ["1e-2", "0.002", "10"]
    jobs = [Given({"optimiser.learning_rate": rate}) for rate in rates]
    place = write_sweep(tmp_path, jobs)
    assert main(["report", str(place)]) == 0
    browser = opened(place / "report.html")
    heading(browser, "optimiser.learning_rate")[0].click()
    assert rows(browser) == [2, 1, 3]


def test_filters_hide_rows_charts_and_pictures(made: Path, opened: Opened) -> None:
    browser = opened(made)
    menu = Select(browser.find_element(By.CSS_SELECTOR, "[data-setting='1']"))
    menu.select_by_visible_text("keypoints")
    assert rows(browser) == [2, 4]
    assert browser.find_element(By.ID, "count").text == "2 of 4 rows"
    assert [name[0] for name in traces(browser, "curves-chart")] == ["2", "4"]
    figures = browser.find_elements(By.CSS_SELECTOR, ".drawn figure")
    assert {f.get_attribute("data-row") for f in figures if f.is_displayed()} == {"2", "4"}
    find = browser.find_element(By.ID, "find")
    find.send_keys("refiner")
    assert rows(browser) == [2]
    browser.find_element(By.ID, "clear").click()
    assert rows(browser) == [1, 2, 3, 4]
    find.send_keys("FINITE")
    assert rows(browser) == [3]
    find.send_keys("nothing of the kind")
    assert rows(browser) == []
    says_nothing(browser)


def test_dragging_over_an_axis_keeps_its_rows(made: Path, opened: Opened) -> None:
    browser = opened(made)
    chart = browser.find_element(By.ID, "parallel-chart")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    # The second of four axes is cond, whose lowest point is landmarks.
    point = browser.execute_script(
        "const chart = arguments[0], box = chart.getBoundingClientRect();"
        "const {xaxis: x, yaxis: y} = chart._fullLayout;"
        "return [box.left + x._offset + x.d2p(1), box.top + y._offset + y.d2p(0)]",
        chart,
    )
    left, top = (round(number) for number in point)
    actions = ActionChains(browser, duration=50)
    actions.w3c_actions.pointer_action.move_to_location(left - 15, top - 15)
    actions.w3c_actions.pointer_action.pointer_down()
    actions.w3c_actions.pointer_action.move_to_location(left, top)
    actions.w3c_actions.pointer_action.move_to_location(left + 15, top + 8)
    actions.w3c_actions.pointer_action.pointer_up()
    actions.perform()
    WebDriverWait(browser, 5).until(lambda _: rows(browser) == [1])
    browser.find_element(By.ID, "clear").click()
    assert rows(browser) == [1, 2, 3, 4]
    says_nothing(browser)


def test_a_failure_is_shown_as_text_with_its_traceback(made: Path, opened: Opened) -> None:
    browser = opened(made)
    failures = browser.find_element(By.ID, "failures")
    assert "<script>window.attacked" in failures.text
    assert "Traceback (most recent" not in failures.text
    failures.find_element(By.TAG_NAME, "summary").click()
    assert "Traceback (most recent" in failures.text
    assert "failed" in browser.find_elements(By.CSS_SELECTOR, "#rows tr")[2].text


@pytest.mark.parametrize("width", [375, 1600])
@pytest.mark.parametrize("count", [4, 24])
def test_nothing_sticks_out_of_the_window(
    tmp_path: Path, opened: Opened, width: int, count: int
) -> None:
    jobs = (
        FOUR if count == 4 else [Given({"seed": str(n), "fusion": f"f{n}"}) for n in range(count)]
    )
    place = write_sweep(tmp_path, jobs, name="a_long_name_without_a_place_to_break" * 3)
    assert main(["report", str(place)]) == 0
    browser = opened(place / "report.html", width, 800)
    browser.find_element(By.ID, "controls").click()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = "return [...document.querySelectorAll('.box')].map((box) => box.clientWidth)"
    assert max(browser.execute_script(wide)) <= width
    says_nothing(browser)
