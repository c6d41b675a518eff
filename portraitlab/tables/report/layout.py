"""What the parts of the page are built of."""

from __future__ import annotations

from collections.abc import Sequence

from portraitlab.tables.report.charts import colour
from portraitlab.tables.report.markup import Html, element
from portraitlab.tables.report.rows import Report, Row


def section(name: str, title: str, *content: Html) -> Html:
    """A part of the page under its heading; the contents link to its name."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def note(*text: str | Html) -> Html:
    """A paragraph that explains."""
    return element("p", *text, class_="note")


def box(label: str, *content: Html) -> Html:
    """What may be wider than the window scrolls inside of this, also by keyboard."""
    return element("div", *content, class_="box", tabindex="0", role="region", aria_label=label)


def menu(text: str, name: str, values: Sequence[str]) -> Html:
    """A choice of values; name: the id that the script knows it by."""
    options = [element("option", value, value=value) for value in values]
    return element("label", text, element("select", *options, id=name))


def chart(name: str) -> Html:
    """The place of a chart that the script draws."""
    return element("div", id=name, class_="chart")


def legend(report: Report) -> Html:
    """The colours of all rows; filters hold for it too."""
    names = [
        element("li", swatch(row), report.label(row), data_row=row.number) for row in report.rows
    ]
    return element("ul", *names, class_="legend")


def swatch(row: Row) -> Html:
    """The row's colour, as a square before its name."""
    return element("span", class_="swatch", style=f"background:{colour(row)}", aria_hidden="true")
