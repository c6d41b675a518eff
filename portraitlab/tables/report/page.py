"""Build the page: one HTML file with its style, scripts, data and pictures."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from portraitlab.runs.records import Record
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.report.charts import chart_content
from portraitlab.tables.report.markup import Html, element
from portraitlab.tables.report.paper import PAPER_PARTS, paper_sections
from portraitlab.tables.report.pictures import pictures
from portraitlab.tables.report.results import columns
from portraitlab.tables.report.rows import Report
from portraitlab.tables.report.sections import (
    curves,
    differences,
    failures,
    filters,
    parallel,
    results_section,
    scores,
    unfinished,
)


def page(report: Report, table: PaperTable | None = None) -> str:
    """Build the whole page of a report from the files in its folders alone.

    table: the paper's table that the rows belong to, if any; it comes first.
    """
    # Collect scripts and data.
    here = Path(__file__).parent
    scripts = [get_plotlyjs(), (here / "page.js").read_text(encoding="utf-8")]
    content = {
        **chart_content(report),
        "columns": [{"values": c.values, "descends": c.descends} for c in columns(report)],
    }
    # Put the sections in order.
    papers = [] if table is None else paper_sections(table)
    return _document(
        f"{report.name} · PortraitLab {report.kind}",
        [element("h1", report.name), _summary(report), _contents(report, table)],
        [
            *papers,
            filters(report),
            results_section(report),
            scores(report),
            parallel(report),
            curves(report),
            pictures(report),
            differences(report),
            failures(report),
        ],
        [element("script", _data(content), type="application/json", id="report-data")],
        scripts,
    )


def table_page(table: PaperTable) -> str:
    """Build the page of a paper's table from its declaration and its results alone."""
    facts = {"printed in": table.paper, "command": table.command}
    pairs = [element("div", element("dt", name), element("dd", v)) for name, v in facts.items()]
    return _document(
        f"{table.title} · PortraitLab table",
        [
            element("h1", table.title),
            element("dl", *pairs, class_="facts"),
            _links(PAPER_PARTS),
        ],
        paper_sections(table),
    )


def _document(
    title: str,
    header: Sequence[Html],
    main: Sequence[Html],
    data: Sequence[Html] = (),
    scripts: Sequence[str] = (),
) -> str:
    """Build a whole HTML file that runs only its own scripts and loads nothing."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(style)),
    )
    body = element(
        "body",
        element("header", *header),
        element("main", *main),
        *data,
        *(element("script", Html(script)) for script in scripts),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _policy(scripts: Sequence[str]) -> str:
    """Return a content policy that allows only the page's own scripts and no loading."""
    hashes = [
        f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    ] or ["'none'"]
    return (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; "
        "img-src data: blob:"
    )


def _data(content: Any) -> Html:
    """Encode JSON so that no text can end the script element around it."""
    return Html(json.dumps(content, allow_nan=False).replace("<", "\\u003c"))


def _summary(report: Report) -> Html:
    # List the settings: what was swept, and what all rows share.
    done = [row for row in report.rows if row.record is not None]
    facts: list[tuple[str, str]] = []
    if report.kind == "sweep" and len(report.rows) > 1:
        facts += [("swept", "; ".join(_choices(report)))]
    facts += [*report.fixed.items()]
    # Count rows by state.
    counts = dict.fromkeys(sorted({row.state for row in report.rows}), 0)
    for row in report.rows:
        counts[row.state] += 1
    facts += [("rows", ", ".join(f"{number} {state}" for state, number in counts.items()))]
    # Name what the records were made from.
    records = [row.record for row in done if row.record is not None]
    origins = {
        "scored": [f"{r['images']} pictures of {r['identities']} people" for r in records],
        "commit": [_commit(record) for record in records],
    }
    facts += [(name, " and ".join(dict.fromkeys(each))) for name, each in origins.items() if each]
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


def _contents(report: Report, table: PaperTable | None) -> Html:
    names = {
        **({} if table is None else PAPER_PARTS),
        "results": "Results",
        "scores": "Scores",
        "parallel": "Parallel coordinates",
        "curves": "Training curves",
        "pictures": "Pictures",
        "differences": "Differences",
        "failures": f"Failed and unfinished ({len(unfinished(report))})",
    }
    return _links(names)


def _links(names: Mapping[str, str]) -> Html:
    """Make the contents: links to the sections."""
    links = [element("a", text, href=f"#{name}") for name, text in names.items()]
    return element("nav", *links, aria_label="Parts of the page")
