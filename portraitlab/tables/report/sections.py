"""The sections of the page other than its header and its pictures."""

from __future__ import annotations

from portraitlab.tables.report.differences import differing
from portraitlab.tables.report.layout import box, chart, legend, menu, note, section, swatch
from portraitlab.tables.report.markup import Html, element
from portraitlab.tables.report.results import over_seeds, results
from portraitlab.tables.report.rows import Report, Row
from portraitlab.tables.report.seeds import seed_groups


def filters(report: Report) -> Html:
    """Make the filters of rows: a search and a menu for each swept setting."""
    search = element(
        "label",
        "find ",
        element("input", type="search", id="find", placeholder="settings, state, message"),
    )
    # Make a menu for each setting with several values.
    choices = []
    for place, name in enumerate(report.swept):
        values = dict.fromkeys(row.settings.get(name, "–") for row in report.rows)
        if len(values) > 1:
            options = [element("option", "all", value="")]
            options += [element("option", value, value=f"={value}") for value in values]
            choices.append(
                element("label", f"{name} ", element("select", *options, data_setting=place))
            )
    # Join them with a button and the count of shown rows.
    clear = element("button", "show all rows", type="button", id="clear")
    count = element("output", id="count", aria_live="polite")
    return element(
        "form",
        search,
        *choices,
        clear,
        count,
        id="filters",
        role="search",
        aria_label="Rows",
        hidden=len(report.rows) == 1,
    )


def results_section(report: Report) -> Html:
    """Make the table of results, and the means over seeds if there are several."""
    several = len(report.rows) > 1
    about = (
        "Means over people ± standard error. ★ is the best of all rows; ≈ does not differ clearly "
        "from it: the difference, paired person by person, is within two standard errors."
        if several
        else "Means over people ± standard error."
    )
    scorings = {row.run.scoring for row in report.rows if row.record is not None}
    alike = (
        [note(f"Rows were scored in {len(scorings)} ways: compare their figures with care.")]
        if len(scorings) > 1
        else []
    )
    return section(
        "results",
        "Results",
        note(about),
        *alike,
        box("Table of results", results(report)),
        *_means(report),
    )


def _means(report: Report) -> list[Html]:
    groups = seed_groups(report)
    if not groups:
        return []
    return [
        element("h3", "Means over seeds"),
        note("± is the standard deviation over seeds, of all rows whatever the filters are."),
        box("Means over seeds", over_seeds(report, groups)),
    ]


def scores(report: Report) -> Html:
    """Make the chart of one metric at a time with its standard errors."""
    if not report.metrics:
        return section("scores", "Scores", note("No row has a record yet."))
    return section(
        "scores",
        "Scores",
        element("div", menu("metric ", "metric", list(report.metrics)), class_="controls"),
        element("p", class_="note", id="method"),
        chart("scores-chart"),
        note("Bars are standard errors; grey diamonds below the line are the world's bounds."),
    )


def parallel(report: Report) -> Html:
    """Make the chart of each row's settings and metrics as a line."""
    if sum(row.record is not None for row in report.rows) < 2:
        return section("parallel", "Parallel coordinates", note("Needs two rows with records."))
    return section(
        "parallel",
        "Parallel coordinates",
        note(
            "Each line is a row; on every metric's axis better is up. Drag over points of an axis "
            "to keep only their rows, in the whole page."
        ),
        legend(report),
        box("Parallel coordinates", chart("parallel-chart")),
    )


def curves(report: Report) -> Html:
    """Make the chart of one loss at a time over the steps of training."""
    if not any(row.losses for row in report.rows):
        return section("curves", "Training curves", note("No losses were logged."))
    names = dict.fromkeys(name for row in report.rows for line in row.losses for name in line)
    logarithmic = element("input", type="checkbox", id="logarithmic")
    return section(
        "curves",
        "Training curves",
        element(
            "div",
            menu("loss ", "loss", [name for name in names if name != "step"]),
            element("label", logarithmic, " logarithmic"),
            class_="controls",
        ),
        legend(report),
        chart("curves-chart"),
    )


def differences(report: Report) -> Html:
    """Make the table of settings in which the rows' configurations differ."""
    known = [row for row in report.rows if row.configuration]
    paths = differing([row.configuration for row in known])
    if not paths:
        alone = "There is one row alone." if len(known) < 2 else "No setting differs."
        return section("differences", "Configuration differences", note(alone))
    # Make a line for each setting and a column for each row.
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
    # Explain where the values come from.
    notes = [note("Settings that differ between rows, from each run's config.yaml.")]
    if len({row.run.folder for row in known}) < len(known):
        notes.append(
            note(
                "Some rows are scorings of one training and show its configuration; the settings "
                "of each scoring are in the table of results."
            )
        )
    return section(
        "differences",
        "Configuration differences",
        *notes,
        box("Configuration differences", table),
    )


def unfinished(report: Report) -> list[Row]:
    """List the rows without a record, or with files that could not be read."""
    return [row for row in report.rows if row.record is None or row.remarks]


def failures(report: Report) -> Html:
    """Make the section of those rows: messages, progress and tracebacks."""
    articles = [_failure(report, row) for row in unfinished(report)]
    content = articles or [note("Every row has its record.")]
    return section("failures", "Failed and unfinished rows", *content)


def _failure(report: Report, row: Row) -> Html:
    parts = [element("h3", swatch(row), report.label(row), ": ", row.state)]
    parts += [element("p", text, class_="message") for text in (row.message, *row.remarks) if text]
    place = [
        f"{name} {row.status[name]}" for name in ("doing", "step", "steps") if name in row.status
    ]
    if "written" in row.status:
        place.append(f"last written {row.status['written']}")
    parts.append(note("; ".join([*place, f"run {row.run.folder.name}"])))
    trace = row.status.get("traceback")
    if trace:
        parts.append(
            element(
                "details", element("summary", "traceback"), box("Traceback", element("pre", trace))
            )
        )
    return element("article", *parts, data_row=row.number, class_="failure")
