"""The figures of a table: every row is there, and what is drawn is what the results say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image
from written_table import SHOWN, declared, write_results

from portraitlab.app.cli.main import main
from portraitlab.tables.comparison import compare, row_difference, row_interval, spread
from portraitlab.tables.ending import write_readme
from portraitlab.tables.figures.against_paper import against_paper
from portraitlab.tables.figures.bars import bars
from portraitlab.tables.figures.curves import curves
from portraitlab.tables.figures.drawing import figures, write_figures
from portraitlab.tables.figures.over_number import over_number
from portraitlab.tables.figures.style import rendered
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import Result, read_results
from portraitlab.tables.writing import signed


def of(results: list[Result], row: str) -> list[Result]:
    return [each for each in results if each.row == row]


def texts(figure: Figure) -> list[str]:
    """All that is written in a figure's panels."""
    axes = figure.axes
    return [label.get_text() for axis in axes for label in [*axis.texts, *axis.get_yticklabels()]]


def legend(figure: Figure) -> list[str]:
    (shown,) = figure.legends
    return [text.get_text() for text in shown.get_texts()]


@pytest.fixture
def table(tmp_path: Path) -> PaperTable:
    return write_results(declared(tmp_path / "paper" / "table2"))


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5"])
def test_every_row_and_metric_of_a_table_has_its_bar(tmp_path: Path, name: str) -> None:
    table = write_results(declared(tmp_path / name, name, seeds=(0,)))
    figure = bars(table, read_results(table))
    assert figure is not None
    assert len(figure.axes) == len(table.columns)
    for axis in figure.axes:
        names = [label.get_text() for label in axis.get_yticklabels()]
        # They are written once for panels that stand side by side.
        assert names == (
            [row.name for row in table.rows] if axis.get_subplotspec().is_first_col() else []
        )
        assert len(axis.patches) == len(table.rows)
        top, bottom = axis.get_ylim()[::-1]
        assert top < bottom, "the first row stands at the top"


def test_bars_and_their_ends_are_means_and_deviations_over_seeds(table: PaperTable) -> None:
    results = read_results(table)
    figure = bars(table, results)
    assert figure is not None
    for axis, metric in zip(figure.axes, table.columns, strict=True):
        ends = [each for each in axis.containers if isinstance(each, ErrorbarContainer)]
        for row, bar, end in zip(table.rows, axis.patches, ends, strict=True):
            found = spread(of(results, row.name), metric)
            assert found is not None
            mean, deviation = found
            assert deviation is not None
            assert bar.get_width() == pytest.approx(mean)
            (segment,) = end.lines[2][0].get_segments()
            assert segment[:, 0] == pytest.approx([mean - deviation, mean + deviation])


def test_the_best_is_marked_in_the_metric_s_own_direction(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "t", "table3", seeds=(0,)))
    results = read_results(table)
    figure = bars(table, results)
    assert figure is not None
    for axis, (metric, up) in zip(figure.axes, table.columns.items(), strict=True):
        values = [of(results, row.name)[0].value(metric) for row in table.rows]
        marked = [text.get_text() for text in axis.texts if "★" in text.get_text()]
        assert marked == [f"{(max if up else min)(values):.3f} ★"]


def test_small_figures_have_a_digit_more(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "t", "table3"))
    results = read_results(table)
    for each in results:
        each.metrics["pose"]["value"] /= 10
    figure = bars(table, results)
    assert figure is not None
    written = [text.get_text() for text in figure.axes[list(table.columns).index("pose")].texts]
    assert all(re.match(r"0\.0\d{3} ±0\.\d{4}", text) for text in written)
    assert all(re.match(r"0\.\d{3} ±0\.\d{3}\b", each.get_text()) for each in figure.axes[0].texts)


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "t", seeds=(0,)))
    figure = bars(table, read_results(table))
    assert figure is not None
    assert not any(
        isinstance(c, ErrorbarContainer) for axis in figure.axes for c in axis.containers
    )
    assert not any("±" in text for text in texts(figure))


def test_missing_rows_keep_their_places(tmp_path: Path) -> None:
    table = declared(tmp_path / "t", "table2")
    write_results(table, without=[("concat", seed) for seed in table.seeds])
    results = read_results(table)
    figure = bars(table, results)
    assert figure is not None
    assert texts(figure).count("missing") == len(table.columns)
    assert "concat" in texts(figure)
    for other in (against_paper(table, results), curves(table, results)):
        assert other is not None
        assert legend(other) == [row.name for row in table.rows if row.name != "concat"]


def test_points_stand_at_the_paper_s_figures_and_at_ours(table: PaperTable) -> None:
    results = read_results(table)
    figure = against_paper(table, results)
    assert figure is not None
    assert legend(figure) == [row.name for row in table.rows]
    for axis, metric in zip(figure.axes, table.columns, strict=True):
        for row, point in zip(table.rows, axis.containers, strict=True):
            found = spread(of(results, row.name), metric)
            assert found is not None
            (place,) = point.lines[0].get_xydata()
            assert place == pytest.approx([row.paper[metric], found[0]])
        compared = compare(table, results, metric)
        assert compared is not None
        assert f"τ {signed(compared.tau.value, 2)}" in axis.get_title()


def test_many_rows_look_different(tmp_path: Path) -> None:
    own = declared(tmp_path / "t", seeds=(0,))
    rows = [
        replace(own.rows[0], name=f"row {number}", overrides={"seed": number})
        for number in range(20)
    ]
    table = write_results(replace(own, rows=tuple(rows)))
    figure = against_paper(table, read_results(table))
    assert figure is not None
    points = [container.lines[0] for container in figure.axes[0].containers]
    assert len({(point.get_color(), point.get_marker()) for point in points}) == 20


def test_a_metric_that_the_paper_prints_for_one_row_has_no_panel(table: PaperTable) -> None:
    first, *others = table.rows
    printed = [replace(row, paper={"sim_f": row.paper["sim_f"]}) for row in others]
    figure = against_paper(replace(table, rows=(first, *printed)), read_results(table))
    assert figure is not None
    assert len(figure.axes) == 1
    none = [replace(row, paper={}) for row in table.rows]
    assert against_paper(replace(table, rows=tuple(none)), read_results(table)) is None


def test_the_band_over_a_number_is_the_interval_over_people_and_seeds(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "t", "table4", seeds=(0, 1)))
    results = read_results(table)
    figure = over_number(table, results)
    assert figure is not None
    axis = figure.axes[0]
    line = axis.lines[0].get_xydata()
    corners = {(round(x, 6), round(y, 6)) for x, y in axis.collections[0].get_paths()[0].vertices}
    for number, row in enumerate(table.rows):
        interval = row_interval(of(results, row.name), "sim_f")
        assert interval is not None
        assert line[number] == pytest.approx([int(row.name), interval.value])
        assert interval.between is not None
        low, high = interval.between
        assert low < interval.value < high
        for end in (low, high):
            assert (int(row.name), round(end, 6)) in corners
    (below,) = [axis for axis in figure.axes if axis.get_ylabel() == "in the paper"]
    assert below.lines[0].get_ydata() == pytest.approx([r.paper["sim_f"] for r in table.rows])
    assert below.get_xlabel() == "references"


def test_an_interval_is_of_one_row_s_people_and_needs_something_to_draw_anew(
    table: PaperTable,
) -> None:
    results = of(read_results(table), "concat")
    one = row_interval(results[:1], "sim_f")
    assert one is not None
    assert one.between is not None
    people = np.array(list(results[0].metrics["sim_f"]["by_identity"].values()))
    error = people.std(ddof=1) / np.sqrt(len(people))
    assert one.between == pytest.approx((one.value - 2 * error, one.value + 2 * error), abs=error)
    whole = [
        replace(each, content={**each.content, "metrics": {"fid": {"value": 0.04}}})
        for each in results
    ]
    alone, several = row_interval(whole[:1], "fid"), row_interval(whole, "fid")
    assert alone is not None
    assert alone.between is None
    assert several is not None
    assert several.between == (0.04, 0.04)
    assert row_interval(results, "pose") is None


def test_rows_differ_by_the_difference_of_their_means(table: PaperTable) -> None:
    results = read_results(table)
    one, other = of(results, "face refiner"), of(results, "local features")
    found = row_difference(one, other, "sim_f")
    values = [row_interval(row, "sim_f") for row in (one, other)]
    assert found is not None
    assert found.value == pytest.approx(values[0].value - values[1].value)
    assert found.between is not None
    low, high = found.between
    # People are the same in both rows, so that what is hard about a person cancels.
    assert 0 < high - low < values[0].between[1] - values[0].between[0]
    turned = row_difference(other, one, "sim_f")
    assert turned is not None
    assert turned.between == pytest.approx((-high, -low))
    assert row_difference(one[:1], other[1:], "sim_f") is None


def test_rows_that_no_person_was_measured_in_alike_are_not_compared(table: PaperTable) -> None:
    results = []
    for each in read_results(table):
        people = each.metrics["sim_f"]["by_identity"]
        own = list(people)[each.seed]  # another person with each seed
        metric = {**each.metrics["sim_f"], "by_identity": {**dict.fromkeys(people), own: 0.5}}
        content = {**each.content, "metrics": {**each.metrics, "sim_f": metric}}
        results.append(replace(each, content=content))
    assert compare(table, results, "sim_f") is None
    assert row_interval(of(results, "concat"), "sim_f") is None
    assert row_difference(of(results, "concat"), of(results, "face refiner"), "sim_f") is None
    assert bars(table, results) is not None
    figure = against_paper(table, results)
    assert figure is not None
    assert len(figure.axes) == len(table.columns) - 1


def test_rows_that_are_no_numbers_or_one_alone_have_no_curve_over_them(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "a", "table2", seeds=(0,)))
    assert over_number(table, read_results(table)) is None
    table = declared(tmp_path / "b", "table4", seeds=(0,))
    write_results(table, without=[(row.name, 0) for row in table.rows[1:]])
    assert over_number(table, read_results(table)) is None


def test_training_curves_are_means_over_seeds_within_their_range(table: PaperTable) -> None:
    results = read_results(table)
    figure = curves(table, results)
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == [
        *("whole loss", "noise loss", "identity loss")
    ]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    for row in table.rows:
        own = [each.content["curve"]["train/loss"] for each in of(results, row.name)]
        mean, found = np.mean(own, axis=0), lines[row.name].get_ydata()
        # 80 points, each with the four before and the four behind it.
        assert found[40] == pytest.approx(mean[36:45].mean())
        assert found[0] == pytest.approx(mean[:5].mean())
        assert np.std(np.diff(found)) < np.std(np.diff(mean))
    assert len(figure.axes[0].collections) == len(table.rows)


def test_no_mean_of_losses_reaches_across_where_another_joins(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "t", seeds=(0,)))
    joined = [None] * 30 + [0.5] * 50
    curve = {
        "step": list(range(80)),
        "train/loss": [0.5 if each is None else 1.0 for each in joined],
        "train/identity": joined,
    }
    results = [
        replace(each, content={**each.content, "curve": curve}) for each in read_results(table)
    ]
    figure = curves(table, results)
    assert figure is not None
    whole, identity = (axis.lines[0] for axis in figure.axes)
    assert list(whole.get_ydata()) == pytest.approx(curve["train/loss"])
    assert list(identity.get_xdata()) == list(range(30, 80))


def test_rows_of_one_training_share_a_line_and_results_without_losses_have_none(
    table: PaperTable,
) -> None:
    results = read_results(table)
    same = [replace(each, content={**each.content, "key": f"{each.seed}"}) for each in results]
    figure = curves(table, same)
    assert figure is not None
    assert legend(figure) == ["all rows, which share their trainings"]
    bare = [replace(each, content={**each.content, "curve": {}}) for each in results]
    assert curves(table, bare) is None


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(table: PaperTable, tmp_path: Path) -> None:
    write_figures(table.folder, figures(table, read_results(table)))
    first = {path.name: path.read_bytes() for path in (table.folder / "figures").iterdir()}
    assert set(first) == {
        *(
            f"{name}.{form}"
            for name in ("bars", "against-paper", "curves")
            for form in ("png", "svg")
        ),
        "sheet.png",
    }
    # Neither what somebody set before, nor another place.
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": "other"}):
        again = write_results(declared(tmp_path / "elsewhere" / "table2"))
        drawn = figures(again, read_results(again))
        assert mpl.rcParams["font.size"] == 30
    second = {f"{own.name}.{form}": own.forms[form] for own in drawn for form in own.forms}
    assert {name for name in first if first[name] != second[name]} == set()
    assert b"<dc:date>" not in first["bars.svg"]


def test_figures_are_shown_in_the_readme_and_go_with_the_results(table: PaperTable) -> None:
    write_readme(table)
    text = (table.folder / "README.md").read_text()
    for name in ("bars", "against-paper", "curves", "sheet"):
        assert f"(figures/{name}.png)" in text
    assert "over-number" not in text
    for path in (table.folder / "results").iterdir():
        path.unlink()
    write_readme(table)
    assert "figures/" not in (table.folder / "README.md").read_text()
    assert list((table.folder / "figures").iterdir()) == []


@pytest.mark.slow
def test_the_command_draws_them_anew_from_results_alone(
    table: PaperTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", str(table.folder), "--figures"]) == 0
    assert f"table: {table.folder / 'README.md'}" in capsys.readouterr().out
    with Image.open(table.folder / "figures" / "sheet.png") as sheet:
        assert sheet.width > SHOWN * 128


def test_a_figure_is_written_in_both_forms(table: PaperTable) -> None:
    figure = bars(table, read_results(table))
    assert figure is not None
    assert rendered(figure, "png").startswith(b"\x89PNG")
    assert b"<svg" in rendered(figure, "svg")
