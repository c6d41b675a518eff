"""The page itself: one HTML file that holds its style, its scripts, its data and its pictures."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from portraitlab.report.charts import chart_content
from portraitlab.report.differences import differing
from portraitlab.report.markup import Html, element, joined
from portraitlab.report.results import columns, results, swatch
from portraitlab.report.rows import Report, Row
from portraitlab.report.sheets import Drawn, Sheet, picture_source, sheets
from portraitlab.tables.scores import Record


def page(report: Report) -> str:
    """The whole page of a report, a function of what lies in its folders alone."""
    here = Path(__file__).parent
    scripts = [get_plotlyjs(), (here / "page.js").read_text(encoding="utf-8")]
    content = {
        **chart_content(report),
        "columns": [{"values": c.values, "descends": c.descends} for c in columns(report)],
    }
    title = f"{report.name} · PortraitLab {report.kind}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html((here / "page.css").read_text(encoding="utf-8"))),
    )
    body = element(
        "body",
        element("header", element("h1", report.name), _about(report), _contents(report)),
        element(
            "main",
            _filters(report),
            _results(report),
            _scores(report),
            _parallel(report),
            _curves(report),
            _pictures(report),
            _differences(report),
            _failures(report),
        ),
        element("script", _data(content), type="application/json", id="report-data"),
        *(element("script", Html(script)) for script in scripts),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _policy(scripts: Sequence[str]) -> str:
    """Lets the page run its own scripts alone, and load nothing from anywhere."""
    hashes = [
        f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    ]
    return (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; "
        "img-src data: blob:"
    )


def _data(content: Any) -> Html:
    """JSON in which no text can end the script that it stands in."""
    return Html(json.dumps(content, allow_nan=False).replace("<", "\\u003c"))


def _about(report: Report) -> Html:
    done = [row for row in report.rows if row.record is not None]
    facts: list[tuple[str, str]] = []
    if report.kind == "sweep" and len(report.rows) > 1:
        facts += [("swept", "; ".join(_choices(report)))]
    facts += [*report.fixed.items()]
    counts = dict.fromkeys(sorted({row.state for row in report.rows}), 0)
    for row in report.rows:
        counts[row.state] += 1
    facts += [("rows", ", ".join(f"{number} {state}" for state, number in counts.items()))]
    records = [row.record for row in done if row.record is not None]
    told = {
        "scored": [f"{r['images']} pictures of {r['identities']} people" for r in records],
        "commit": [_commit(record) for record in records],
    }
    facts += [(name, " and ".join(dict.fromkeys(each))) for name, each in told.items() if each]
    pairs = [
        element("div", element("dt", name), element("dd", value)) for name, value in facts if value
    ]
    return element("dl", *pairs, class_="facts")


def _commit(record: Record) -> str:
    name, *changes = (record.get("origin", {}).get("commit") or "unknown").split("+")
    return "+".join([name[:10], *changes])


def _choices(report: Report) -> list[str]:
    return [
        f"{name} = {', '.join(dict.fromkeys(row.settings.get(name, '–') for row in report.rows))}"
        for name in report.swept
    ]


def _contents(report: Report) -> Html:
    failures = _failed(report)
    names = {
        "results": "Results",
        "scores": "Scores",
        "parallel": "Parallel coordinates",
        "curves": "Training curves",
        "pictures": "Pictures",
        "differences": "Differences",
        "failures": f"Failures ({len(failures)})",
    }
    links = [element("a", text, href=f"#{name}") for name, text in names.items()]
    return element("nav", *links, aria_label="Parts of the page")


def _section(name: str, title: str, *content: Html) -> Html:
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def _note(*text: str | Html) -> Html:
    return element("p", *text, class_="note")


def _box(label: str, *content: Html) -> Html:
    """What may be wider than the window scrolls inside of this, also by keyboard."""
    return element("div", *content, class_="box", tabindex="0", role="region", aria_label=label)


def _filters(report: Report) -> Html:
    search = element(
        "label",
        "find ",
        element("input", type="search", id="find", placeholder="settings, state, message"),
    )
    choices = []
    for place, name in enumerate(report.swept):
        values = dict.fromkeys(row.settings.get(name, "–") for row in report.rows)
        if len(values) > 1:
            options = [element("option", "all", value="")]
            options += [element("option", value, value=f"={value}") for value in values]
            menu = element("select", *options, data_setting=place)
            choices.append(element("label", f"{name} ", menu))
    clear = element("button", "show all rows", type="button", id="clear")
    count = element("output", id="count", aria_live="polite")
    return element(
        "form", search, *choices, clear, count, id="filters", role="search", aria_label="Rows"
    )


def _results(report: Report) -> Html:
    several = len(report.rows) > 1
    note = (
        "Means over people ± standard error. ★ is the best of all rows; ≈ cannot be told from it: "
        "the difference, paired person by person, is within two standard errors."
        if several
        else "Means over people ± standard error."
    )
    scorings = {row.run.scoring for row in report.rows if row.record is not None}
    alike = (
        [_note(f"Rows were scored in {len(scorings)} ways: compare their figures with care.")]
        if len(scorings) > 1
        else []
    )
    return _section(
        "results", "Results", _note(note), *alike, _box("Table of results", results(report))
    )


def _scores(report: Report) -> Html:
    if not report.metrics:
        return _section("scores", "Scores", _note("No row has a record yet."))
    return _section(
        "scores",
        "Scores",
        element("div", _menu("metric ", "metric", list(report.metrics)), class_="controls"),
        element("p", class_="note", id="method"),
        _chart("scores-chart"),
        _note("Bars are standard errors; grey diamonds below the line are the world's bounds."),
    )


def _parallel(report: Report) -> Html:
    if not report.metrics:
        return _section("parallel", "Parallel coordinates", _note("No row has a record yet."))
    return _section(
        "parallel",
        "Parallel coordinates",
        _note(
            "A line is a row; on every metric's axis better is up. Drag over points of an axis to "
            "keep only their rows, in the whole page."
        ),
        _legend(report),
        _box("Parallel coordinates", _chart("parallel-chart")),
    )


def _curves(report: Report) -> Html:
    if not any(row.losses for row in report.rows):
        return _section("curves", "Training curves", _note("No losses were logged."))
    names = dict.fromkeys(name for row in report.rows for line in row.losses for name in line)
    logarithmic = element("input", type="checkbox", id="logarithmic")
    return _section(
        "curves",
        "Training curves",
        element(
            "div",
            _menu("loss ", "loss", [name for name in names if name != "step"]),
            element("label", logarithmic, " logarithmic"),
            class_="controls",
        ),
        _legend(report),
        _chart("curves-chart"),
    )


def _menu(text: str, name: str, values: Sequence[str]) -> Html:
    options = [element("option", value, value=value) for value in values]
    return element("label", text, element("select", *options, id=name))


def _legend(report: Report) -> Html:
    names = [
        element("li", swatch(row), report.label(row), data_row=row.number) for row in report.rows
    ]
    return element("ul", *names, class_="legend")


def _chart(name: str) -> Html:
    return element("div", id=name, class_="chart")


def _pictures(report: Report) -> Html:
    found = sheets(report.rows)
    if not found:
        return _section("pictures", "Pictures", _note("No row has drawn pictures yet."))
    size = element(
        "input", type="range", id="size", min=64, max=256, step=32, value=96, aria_label="size"
    )
    control = element("input", type="checkbox", id="controls")
    return _section(
        "pictures",
        "Pictures",
        _note(_conditions(report, found)),
        element(
            "div",
            element("label", "size ", size),
            element("label", control, " control images"),
            class_="controls",
        ),
        element("div", *(_sheet(report, sheet) for sheet in found), class_="people"),
    )


def _conditions(report: Report, found: Sequence[Sheet]) -> str:
    """Whether rows drew under the same references and noise, in words.

    A scoring's hash covers the data, the references and their choice, the sampler and the seeds;
    noise is seeded by the person and the target photo, not by the training's seed.
    """
    scorings = dict.fromkeys(row.run.scoring for row in report.rows if row.record is not None)
    names = ", ".join(scorings)
    if len(scorings) > 1:
        return (
            f"The rows were scored in {len(scorings)} ways ({names}), so what they drew from may "
            "differ. Portraits side by side were drawn from the very same references and target, "
            "compared byte by byte; a person has a block for each other set of them."
        )
    if len({sheet.identity for sheet in found}) < len(found):
        return (
            f"The rows were scored in one way ({names}), yet their references or targets are not "
            "the same pictures: the photos changed between them. A person has a block for each."
        )
    return (
        f"All rows drew under the same references and noise: they were scored in one way ({names}),"
        " which seeds the noise by person and target, and their references and targets are the "
        "same byte by byte."
    )


def _sheet(report: Report, sheet: Sheet) -> Html:
    given = [
        _picture(content, f"reference {number}")
        for number, content in enumerate(sheet.given.references, 1)
    ]
    if sheet.given.target is not None:
        given.append(_picture(sheet.given.target, "target"))
    drawn = [_drawn(report, sheet.identity, each) for each in sheet.drawn]
    return element(
        "article",
        element("h3", f"Person {sheet.identity}"),
        element("div", *given, class_="pictures given"),
        element("div", *drawn, class_="pictures drawn"),
        class_="person",
    )


def _picture(content: bytes, name: str) -> Html:
    image = element("img", src=picture_source(content), alt=name)
    return element("figure", image, element("figcaption", name))


def _drawn(report: Report, identity: str, drawn: Drawn) -> Html:
    label = report.label(drawn.row)
    images = [element("img", src=picture_source(drawn.generated), alt=f"portrait by row {label}")]
    if drawn.control is not None:
        control = picture_source(drawn.control)
        images.append(
            element("img", src=control, alt=f"control image of row {label}", class_="control")
        )
    figure = element("span", class_="score", data_person=identity)
    caption = element("figcaption", swatch(drawn.row), label, figure)
    return element("figure", *images, caption, data_row=drawn.row.number)


def _differences(report: Report) -> Html:
    known = [row for row in report.rows if row.configuration]
    paths = differing([row.configuration for row in known])
    if not paths:
        alone = "There is one row alone." if len(known) < 2 else "No setting differs."
        return _section("differences", "Configuration differences", _note(alone))
    head = element(
        "tr",
        element("th", "setting", scope="col"),
        *(
            element("th", swatch(row), report.label(row), scope="col", data_row=row.number)
            for row in known
        ),
    )
    lines = [
        element(
            "tr",
            element("th", path, scope="row"),
            *(
                element("td", row.configuration.get(path, "–"), data_row=row.number)
                for row in known
            ),
        )
        for path in paths
    ]
    table = element("table", element("thead", head), element("tbody", *lines))
    notes = [_note("Settings that differ between rows, from each run's config.yaml.")]
    if len({row.run.folder for row in known}) < len(known):
        notes.append(
            _note(
                "Some rows are scorings of one training and show its configuration; what they "
                "were scored under stands in the table of results."
            )
        )
    return _section(
        "differences",
        "Configuration differences",
        *notes,
        _box("Configuration differences", table),
    )


def _failed(report: Report) -> list[Row]:
    return [row for row in report.rows if row.record is None or row.remarks]


def _failures(report: Report) -> Html:
    told = [_failure(report, row) for row in _failed(report)]
    content = told or [_note("Every row has its record.")]
    return _section("failures", "Failures", *content)


def _failure(report: Report, row: Row) -> Html:
    parts = [element("h3", swatch(row), report.label(row), ": ", row.state)]
    parts += [element("p", text, class_="message") for text in (row.message, *row.remarks) if text]
    place = [
        f"{name} {row.status[name]}" for name in ("doing", "step", "steps") if name in row.status
    ]
    if "written" in row.status:
        place.append(f"last written {row.status['written']}")
    parts.append(_note("; ".join([*place, f"run {row.run.folder.name}"])))
    trace = row.status.get("traceback")
    if trace:
        parts.append(
            element("details", element("summary", "traceback"), _box("Traceback", _pre(trace)))
        )
    return element("article", *parts, data_row=row.number, class_="failure")


def _pre(text: str) -> Html:
    return joined(element("pre", text))
