"""Elements of HTML and SVG, escaped where they are made.

1. `Html` is markup. Every other string is text, and is escaped when it becomes part of an element:
   a name, a key or a message cannot become markup by being forgotten.
2. Values of attributes are escaped, too. Numbers have two decimal places at most.
3. What no document may contain, such as a NUL in a key, is shown as U+FFFD.
"""

from __future__ import annotations

import html
import re

VOID = frozenset(("meta", "br"))
"""Elements without an end."""
_FORBIDDEN = re.compile(
    r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]"
)


class Html(str):
    """Markup, as against text."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """Text as markup; what is markup already stays as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)))


def element(tag: str, *children: str, **attributes: str | float | None) -> Html:
    """One element.

    Args:
        tag: Its name.
        children: What is in it; all that is not `Html` is text.
        attributes: By name, `_` for `-`, and one behind a name that Python keeps for itself; those
            that are None are left out.
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(_attribute(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Html(f"<{tag}{named}>")
    return Html(f"<{tag}{named}>{joined(*children)}</{tag}>")


def joined(*parts: str) -> Html:
    """Several parts, one after the other."""
    return Html("".join(map(escaped, parts)))


def _attribute(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):.12g}"
