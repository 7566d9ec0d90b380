"""Pictures for a terminal whose encoding does not have every character, as ASCII and Latin-1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

MISSING = "?"


class Encodable:
    """Something to be drawn, with nothing in it that an encoding cannot hold."""

    def __init__(self, drawn: RenderableType, encoding: str) -> None:
        """Draw nothing yet.

        Args:
            drawn: What is to be drawn.
            encoding: Of the output.
        """
        self._drawn = drawn
        self._encoding = encoding

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._drawn, options):
            yield Segment(encodable(segment.text, self._encoding), segment.style, segment.control)


def encodable(text: str, encoding: str) -> str:
    """The same text, as wide, with `?` for what an encoding cannot hold."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_held(character, encoding) for character in text)
    return text


def _held(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return MISSING * cell_len(character)
    return character
