"""The section of the page with the picture sheets."""

from __future__ import annotations

from collections.abc import Sequence

from portraitlab.tables.report.layout import note, section, swatch
from portraitlab.tables.report.markup import Html, element
from portraitlab.tables.report.rows import Report
from portraitlab.tables.report.sheets import DrawnPortrait, Sheet, picture_source, sheets


def pictures(report: Report) -> Html:
    """Make the section of all sheets, with a note on whether rows had the same inputs."""
    found = sheets(report.rows)
    if not found:
        return section("pictures", "Pictures", note("No row has drawn pictures yet."))
    size = element(
        "input", type="range", id="size", min=64, max=256, step=32, value=96, aria_label="size"
    )
    control = element("input", type="checkbox", id="controls")
    return section(
        "pictures",
        "Pictures",
        note(_conditions(report, found)),
        element(
            "div",
            element("label", "size ", size),
            element("label", control, " control images"),
            class_="controls",
        ),
        element("div", *(_sheet(report, sheet) for sheet in found), class_="people"),
    )


def _conditions(report: Report, found: Sequence[Sheet]) -> str:
    """State in words whether rows drew from the same references and noise.

    A scoring's hash covers the data, the references and their choice, the sampler and the seeds;
    noise is seeded by the person and the target photo, not by the training's seed.
    """
    scorings = dict.fromkeys(row.run.scoring for row in report.rows if row.record is not None)
    names = ", ".join(scorings)
    if len(scorings) > 1:
        return (
            f"The rows were scored in {len(scorings)} ways ({names}), so what they drew from may "
            "differ. Portraits side by side were drawn from the very same references and target, "
            "compared byte by byte; a person has a block for each different set of them."
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
        for number, content in enumerate(sheet.inputs.references, 1)
    ]
    if sheet.inputs.target is not None:
        given.append(_picture(sheet.inputs.target, "target"))
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


def _drawn(report: Report, identity: str, drawn: DrawnPortrait) -> Html:
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
