"""Build HTML from elements, so that no text enters a page unescaped."""

from __future__ import annotations

import html

_VOID = frozenset({"img", "input", "link", "meta"})


class Html(str):
    """Markup; any other text is escaped when it becomes part of an element."""

    __slots__ = ()


def element(name: str, /, *content: str | Html, **attributes: str | int | bool | None) -> Html:
    """Make one element with its content.

    attributes: `class_` is class, `data_row` is data-row; None and False are left out, True has no
    value.
    """
    head = name
    for key, value in attributes.items():
        if value is not None and value is not False:
            head += f" {key.rstrip('_').replace('_', '-')}"
            head += "" if value is True else f'="{html.escape(str(value))}"'
    if name in _VOID:
        assert not content, f"{name} holds nothing"
        return Html(f"<{head}>")
    return Html(f"<{head}>{joined(*content)}</{name}>")


def joined(*content: str | Html) -> Html:
    """Join pieces, escaping those that are text."""
    return Html("".join(p if isinstance(p, Html) else html.escape(p) for p in content))
