"""Reports read from folders, and the markup made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from written import BOUND, FAILURE, FOUR, Given, write_run, write_sweep

from portraitlab.app.cli.main import commands, main
from portraitlab.runs.status import write_status
from portraitlab.runs.sweep import Sweep
from portraitlab.support.files import write_json, write_text
from portraitlab.tables.report.bounds import bounds
from portraitlab.tables.report.charts import chart_content
from portraitlab.tables.report.differences import differing, flattened
from portraitlab.tables.report.markup import Html, element
from portraitlab.tables.report.page import page
from portraitlab.tables.report.rows import read_report
from portraitlab.tables.report.seeds import seed_groups
from portraitlab.tables.report.sheets import sheets
from portraitlab.tables.report.standing import best, level_with


def test_the_command_writes_the_page_into_the_folder(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "self-contained" in commands()["report"]
    assert main(["report", str(sweep)]) == 0
    assert capsys.readouterr().out == f"report: {sweep / 'report.html'}\n"
    assert (sweep / "report.html").read_text().startswith("<!doctype html>")
    other = sweep.parent / "new" / "page.html"
    assert main(["report", str(sweep), "--output", str(other)]) == 0
    assert other.read_text() == (sweep / "report.html").read_text()


def test_a_single_run_is_a_page_of_one_row(tmp_path: Path) -> None:
    job = write_run(tmp_path, Given({"fusion": "refiner"}))
    report = read_report(job.run.folder)
    assert (report.kind, report.name) == ("run", job.run.folder.name)
    [row] = report.rows
    assert report.label(row) == "1: refiner · landmarks · hifi_net · 2 · 0"
    assert row.state == "done"
    assert "one row alone" in page(report)


def test_rows_have_the_swept_settings_and_their_states(sweep: Path) -> None:
    report = read_report(sweep)
    assert report.swept == ["fusion", "cond"]
    assert [row.state for row in report.rows] == ["done", "done", "failed", "done"]
    assert report.rows[2].message == FAILURE
    assert list(report.metrics) == ["sim_f", "exp"]
    assert "runs" not in report.rows[0].settings


def test_a_job_without_settings_of_its_own_goes_by_its_run(tmp_path: Path) -> None:
    report = read_report(write_sweep(tmp_path, [Given({"logger": "none"})]))
    assert report.label(report.rows[0]) == f"1: {report.rows[0].run.folder.name}"


def test_nothing_to_report_on_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        assert main(["report", str(path)]) == 1
        message = capsys.readouterr().err
        assert message.startswith(f"{path} has no sweep.json, config.yaml or table.yaml")
        assert message.count("\n") == 1


@pytest.mark.parametrize("text", ["a: [", "a word", "- 1", "seed: 0"])
def test_a_damaged_configuration_of_a_single_run_is_one_message(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "config.yaml", text)
    assert main(["report", str(tmp_path)]) == 1
    assert f"{tmp_path / 'config.yaml'} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", '{"jobs": [{}]}', '{"jobs": 3}', '{"jobs": ["a"]}'])
def test_a_damaged_list_of_jobs_is_one_message(
    sweep: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "sweep.json").write_text(text)
    assert main(["report", str(sweep)]) == 1
    assert re.match(
        r"\S+sweep.json is damaged .*run the same command again\n$", capsys.readouterr().err
    )


def test_a_sweep_without_jobs_and_a_place_that_cannot_be_written(
    tmp_path: Path, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "empty" / "sweep.json", {"jobs": []})
    assert main(["report", str(tmp_path / "empty")]) == 1
    assert "has no jobs" in capsys.readouterr().err
    assert main(["report", str(sweep), "--output", str(sweep / "sweep.json" / "a.html")]) == 1
    assert "--output FILE" in capsys.readouterr().err


def test_jobs_without_a_record_keep_their_rows(tmp_path: Path) -> None:
    place = write_sweep(
        tmp_path,
        [Given({"fusion": "refiner"}, begun=False), Given({"fusion": "concat"}, begun=False)],
    )
    write_status(Sweep.read(place).jobs[1].run.folder, "running", step=7, steps=9)
    report = read_report(place)
    assert [row.state for row in report.rows] == ["not begun", "running"]
    text = page(report)
    assert "No row has a record yet." in text
    assert "step 7; steps 9" in text


def test_damaged_files_of_a_row_are_reported_and_the_others_shown(sweep: Path) -> None:
    jobs = Sweep.read(sweep).jobs
    write_text(jobs[0].run.folder / "config.yaml", "a: [")
    write_text(jobs[0].run.losses, "{\n")
    write_text(jobs[1].run.folder / "config.yaml", "a word")
    write_text(jobs[1].run.folder / "metrics.json", "{")
    write_text(jobs[3].run.folder / "status.json", "")
    report = read_report(sweep)
    assert len(report.rows[0].remarks) == 2
    assert report.rows[0].record is not None
    assert report.rows[1].record is None
    assert "metrics.json is damaged" in report.rows[1].message
    assert [row.state for row in report.rows] == ["damaged", "damaged", "failed", "damaged"]
    assert "metrics.jsonl is damaged" in page(report)


def test_the_best_row_and_rows_within_chance_of_it(sweep: Path) -> None:
    rows = read_report(sweep).rows
    assert best(rows, "sim_f") == [rows[3]]
    assert best(rows, "exp") == [rows[0]]
    assert best(rows, "nothing") == []
    # Row 4 leads by 0.3 on average, but one person has 0.3 less: chance explains that.
    assert "within two standard errors" in (level_with(rows[0], rows[3], "sim_f") or "")
    assert level_with(rows[1], rows[0], "sim_f") is not None
    assert level_with(rows[2], rows[3], "sim_f") is None
    assert level_with(rows[3], rows[0], "exp") is None


def test_bounds_are_shown_once_unless_they_differ(sweep: Path) -> None:
    report = read_report(sweep)
    [bound] = bounds(report)
    assert bound.label(report) == BOUND
    folder = Sweep.read(sweep).jobs[1].run.folder
    record = json.loads((folder / "metrics.json").read_text())
    record["bounds"][BOUND]["sim_f"]["value"] = 0.5
    write_json(folder / "metrics.json", record)
    report = read_report(sweep)
    labels = [each.label(report) for each in bounds(report)]
    assert labels == [f"{BOUND} (of 1, 4)", f"{BOUND} (of 2)"]


def test_differences_leave_out_settings_that_change_no_figure(tmp_path: Path) -> None:
    first = {"a": {"b": 1, "cache": "x"}, "runs": "r", "choices": {"logger": "csv", "net": "n"}}
    second = {"a": {"b": 2, "cache": "y"}, "runs": "s", "choices": {"logger": "none", "net": "n"}}
    third = {**second, "a": {"b": 2, "c": [1, 2], "d": {}}}
    assert flattened(first) == {"a.b": "1", "choices.net": "n"}
    assert flattened(third)["a.c"] == "[1, 2]"
    assert differing([flattened(first), flattened(second)]) == ["a.b"]
    assert differing([flattened(second), flattened(third)]) == ["a.c", "a.d"]


def test_rows_are_shown_below_the_same_references(sweep: Path) -> None:
    found = sheets(read_report(sweep).rows)
    assert [sheet.identity for sheet in found] == ["ann", "bob", "cy"]
    assert [drawn.row.number for drawn in found[0].drawn] == [1, 2, 4]
    assert len(found[0].inputs.references) == 2
    assert "All rows drew under the same references and noise" in page(read_report(sweep))


def test_other_references_are_another_block(tmp_path: Path) -> None:
    place = write_sweep(
        tmp_path, [Given({"seed": "0"}), Given({"seed": "1"}, shade=9), Given({"seed": "2"})]
    )
    report = read_report(place)
    found = sheets(report.rows)
    assert [[d.row.number for d in sheet.drawn] for sheet in found] == [[1, 3], [2]] * 3
    assert "not the same pictures" in page(report)


def test_rows_that_were_scored_otherwise_say_so(tmp_path: Path) -> None:
    place = write_sweep(tmp_path, [Given({"select": "random"}), Given({"select": "target"})])
    report = read_report(place)
    assert report.rows[0].run.folder == report.rows[1].run.folder
    assert report.rows[0].run.record_folder != report.rows[1].run.record_folder
    text = page(report)
    assert "scored in 2 ways" in text
    assert level_with(report.rows[0], report.rows[1], "sim_f") is None


def test_no_text_becomes_markup(sweep: Path) -> None:
    text = page(read_report(sweep))
    assert "<script>window.attacked" not in text
    assert "<img src=x" not in text
    assert text.count("<script") == text.count("</script") == 3
    assert element("a", "<b>", Html("<i>"), title='"', hidden=True, id=None) == (
        '<a title="&quot;" hidden>&lt;b&gt;<i></a>'
    )


def test_a_page_is_a_function_of_its_folders(sweep: Path) -> None:
    assert page(read_report(sweep)) == page(read_report(sweep))


def test_many_rows_have_different_colours(tmp_path: Path) -> None:
    place = write_sweep(tmp_path, [Given({"seed": str(n)}, begun=False) for n in range(20)])
    looks = [
        (row["colour"], row["dash"], row["symbol"])
        for row in chart_content(read_report(place))["rows"]
    ]
    assert len(set(looks)) == 20


def test_losses_that_are_no_numbers_leave_a_gap(sweep: Path) -> None:
    run = Sweep.read(sweep).jobs[0].run
    write_text(run.losses, '{"step": 1, "train/loss": NaN}\n{"step": 2, "train/loss": 0.5}\n')
    content = chart_content(read_report(sweep))
    assert content["rows"][0]["losses"] == {"step": [1, 2], "train/loss": [None, 0.5]}
    assert content["losses"] == ["train/loss", "train/noise", "learning_rate"]
    assert len(content["rows"]) == len(FOUR)


def test_rows_that_differ_in_their_seed_have_a_mean(tmp_path: Path) -> None:
    jobs = [
        Given({"fusion": "refiner", "seed": "0"}, (0.1, 0.1, 0.1)),
        Given({"fusion": "refiner", "seed": "1"}, (0.3, 0.3, 0.3), (None,) * 3),
        Given({"fusion": "concat", "seed": "0"}),
        Given({"fusion": "concat", "seed": "1"}, error="broken"),
    ]
    report = read_report(write_sweep(tmp_path, jobs))
    [group] = seed_groups(report)
    assert (group.settings, [row.number for row in group.rows]) == ({"fusion": "refiner"}, [1, 2])
    assert group.spread("sim_f") == pytest.approx((0.2, 0.02**0.5))
    assert group.spread("exp") is None
    assert '0.200</span><span class="error"> ±0.141' in page(report)
    assert "Means over seeds" not in page(read_report(write_sweep(tmp_path / "one", jobs[1:3])))


def test_a_job_that_only_drew_has_no_record(tmp_path: Path) -> None:
    place = write_sweep(tmp_path, [Given({"seed": "0"}), Given({"seed": "1"}, begun=False)])
    write_status(Sweep.read(place).jobs[1].run.folder, "done")
    assert [row.state for row in read_report(place).rows] == ["done", "no record"]
