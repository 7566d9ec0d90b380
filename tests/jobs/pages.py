"""Reads pages that jobs write, and finds what no page may have."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = frozenset(("meta", "br"))
BAD_TEXT = "<script>alert(1)</script>\"'&\x00"
"""A name, a key or a message as nobody wants it in a page."""
_ADDRESS = re.compile(r"(https?:)?//|url\(|@import|\bsrc=|\bhref=\"(?!#)")


class Page(HTMLParser):
    """Every element and text of a page, which has to be well formed.

    Attributes:
        elements: Tag and attributes of each.
        texts: Of elements that are no style.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"never ended: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"{tag} ends and never began"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def of_class(self, name: str) -> list[tuple[str, dict[str, str | None]]]:
        return [each for each in self.elements if name in (each[1].get("class") or "").split()]


def check_page(text: str) -> Page:
    """A page that is well formed, runs nothing, and asks for nothing outside."""
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n")
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    # The name of SVG's language is no address that anybody asks.
    assert not _ADDRESS.search(text.replace("http://www.w3.org/2000/svg", ""))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert links <= {f"#{each}" for each in ids}
    return page
