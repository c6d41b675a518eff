"""Building blocks of the page."""

from __future__ import annotations

from collections.abc import Sequence

from portraitlab.tables.report.charts import colour
from portraitlab.tables.report.markup import Html, element
from portraitlab.tables.report.rows import Report, Row


def section(name: str, title: str, *content: Html) -> Html:
    """Make a section under its heading; the contents link to its name."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def note(*text: str | Html) -> Html:
    """Make an explaining paragraph."""
    return element("p", *text, class_="note")


def box(label: str, *content: Html) -> Html:
    """Make a box in which wide content scrolls, also by keyboard."""
    return element("div", *content, class_="box", tabindex="0", role="region", aria_label=label)


def menu(text: str, name: str, values: Sequence[str]) -> Html:
    """Make a choice of values; name: its id for the script."""
    options = [element("option", value, value=value) for value in values]
    return element("label", text, element("select", *options, id=name))


def chart(name: str) -> Html:
    """Make the place of a chart that the script draws."""
    return element("div", id=name, class_="chart")


def legend(report: Report) -> Html:
    """Make a legend of the rows' colours, which filters apply to as well."""
    names = [
        element("li", swatch(row), report.label(row), data_row=row.number) for row in report.rows
    ]
    return element("ul", *names, class_="legend")


def swatch(row: Row) -> Html:
    """Make a square in the row's colour, shown before its name."""
    return element("span", class_="swatch", style=f"background:{colour(row)}", aria_hidden="true")
