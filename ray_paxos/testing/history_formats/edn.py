"""A reader of EDN, the notation of Clojure's data, in which Jepsen writes its operations.

It reads all of EDN (github.com/edn-format/edn) and keeps what histories need: keywords, maps,
sequences and plain values; a tagged value counts as the value alone, and `#_` leaves out what
follows. All values can be hashed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Keyword:
    """A name that stands for itself, written `:name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """A bare word; and a number of a kind that Python has no literal for, such as 1/2."""

    name: str


@dataclass(frozen=True, slots=True)
class EdnMap:
    """A map.

    Attributes:
        pairs: Keys, each once, and their values, in the order they are written.
        line: Where it starts, from 1; no part of its value.
    """

    pairs: tuple[tuple[Edn, Edn], ...]
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class EdnSet:
    """Items of a set, in the order they are written."""

    items: tuple[Edn, ...]


Scalar: TypeAlias = bool | int | float | str | Keyword | Symbol | None
Edn: TypeAlias = "Scalar | EdnMap | EdnSet | tuple[Edn, ...]"


class EdnError(ValueError):
    """The text is no EDN.

    Attributes:
        line: Where, from 1.
    """

    def __init__(self, line: int, reason: str) -> None:
        """Say where and why."""
        super().__init__(reason)
        self.line = line


_TOKEN = re.compile(
    r"""
    (?P<blank> (?: [\s,]+ | ;[^\n]* )+ )
    | (?P<string> "[^"\\]*(?:\\.[^"\\]*)*" )
    | (?P<character> \\(?: newline | space | tab | return | formfeed | backspace
                         | u[0-9a-fA-F]{4} | . ) )
    | (?P<special> \#\#(?: NaN | Inf | -Inf ) )
    | (?P<open> \#\{ | [(\[{] )
    | (?P<close> [)\]}] )
    | (?P<discard> \#_ )
    | (?P<tag> \#[^\s,;"()\[\]{}\\\#_][^\s,;"()\[\]{}\\]* )
    | (?P<atom> [^\s,;"()\[\]{}\\\#][^\s,;"()\[\]{}\\]* )
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSES = {"(": ")", "[": "]", "{": "}", "#{": "}"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    '"': '"',
    "\\": "\\",
}
_CHARACTERS = {
    "newline": "\n",
    "space": " ",
    "tab": "\t",
    "return": "\r",
    "formfeed": "\f",
    "backspace": "\b",
}
_NAMES: dict[str, Scalar] = {"nil": None, "true": True, "false": False}
_SPECIAL = {"NaN": "nan", "Inf": "inf", "-Inf": "-inf"}
_INTEGER = re.compile(r"[+-]?\d+N?")
_FLOAT = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?M?")
_NUMBER_START = re.compile(r"[+-]?\d")
_DIGITS_MAX = 1_000
_DEPTH_MAX = 100


@dataclass
class _Frame:
    """Something that was opened and is not complete: a sequence, a tag or a discard."""

    opener: str
    line: int
    items: list[Edn] = field(default_factory=list)


def read_forms(text: str) -> Iterator[tuple[int, Edn]]:
    """All top-level values of a text, each with the line it starts on.

    Raises:
        EdnError: The text is no EDN; what comes before that has been given out.
    """
    frames: list[_Frame] = []
    position, line, top_line = 0, 1, 1
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise EdnError(line, f"unreadable: {text[position : position + 40]!r}")
        kind, word = str(token.lastgroup), token.group()
        if not frames and kind != "blank":
            top_line = line
        position = token.end()
        if kind in ("open", "tag", "discard"):
            if len(frames) == _DEPTH_MAX:
                raise EdnError(line, f"nested more than {_DEPTH_MAX} deep")
            frames.append(_Frame("#_" if kind == "discard" else word, line))
        elif kind == "close":
            value = _closed(frames, word, line)
            yield from _delivered(frames, value, top_line)
        elif kind != "blank":
            yield from _delivered(frames, _scalar(kind, word, line), top_line)
        line += word.count("\n")
    if frames:
        raise EdnError(frames[-1].line, f"{frames[-1].opener!r} is never completed")


def _delivered(frames: list[_Frame], value: Edn, top_line: int) -> Iterator[tuple[int, Edn]]:
    """Put a complete value where it belongs; give it out if that is the top."""
    while frames and frames[-1].opener not in _CLOSES:
        if frames.pop().opener == "#_":
            return
    if frames:
        frames[-1].items.append(value)
    else:
        yield top_line, value


def _closed(frames: list[_Frame], word: str, line: int) -> Edn:
    """The sequence that this bracket completes."""
    if not frames or _CLOSES.get(frames[-1].opener) != word:
        raise EdnError(line, f"{word!r} closes nothing")
    frame = frames.pop()
    if frame.opener == "#{":
        return EdnSet(tuple(frame.items))
    if frame.opener != "{":
        return tuple(frame.items)
    if len(frame.items) % 2:
        raise EdnError(frame.line, "a map has a key without a value")
    keys = frame.items[::2]
    if len(set(keys)) != len(keys):
        raise EdnError(frame.line, "a map has a key twice")
    return EdnMap(tuple(zip(keys, frame.items[1::2], strict=True)), frame.line)


def _scalar(kind: str, word: str, line: int) -> Edn:
    if kind == "string":
        return _ESCAPE.sub(lambda found: _escaped(found.group(1), line), word[1:-1])
    if kind == "character":
        name = word[1:]
        if len(name) == 5 and name[0] == "u":
            return chr(int(name[1:], 16))
        return _CHARACTERS.get(name, name)
    if kind == "special":
        return float(_SPECIAL[word[2:]])
    return _atom(word, line)


def _escaped(name: str, line: int) -> str:
    if name in _ESCAPED:
        return _ESCAPED[name]
    if len(name) == 5:
        return chr(int(name[1:], 16))
    if name[0] in "01234567":
        return chr(int(name, 8))
    raise EdnError(line, f"\\{name} is no escape")


def _atom(word: str, line: int) -> Edn:
    if word in _NAMES:
        return _NAMES[word]
    if word[0] == ":":
        if len(word) == 1:
            raise EdnError(line, "':' alone is no keyword")
        return Keyword(word[1:])
    if _NUMBER_START.match(word) is None:
        return Symbol(word)
    if len(word) > _DIGITS_MAX:
        raise EdnError(line, f"a number of {len(word)} digits")
    if _INTEGER.fullmatch(word) is not None:
        return int(word.rstrip("N"))
    if _FLOAT.fullmatch(word) is not None:
        return float(word.rstrip("M"))
    return Symbol(word)
