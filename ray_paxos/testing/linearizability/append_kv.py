"""Text by key: `put` of a text, `append` of a text, `get`.

A key holds the empty text at first, which a get may tell as null, too. The results of `put` and
`append` are not looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import ClassVar, TypeAlias

from ray_paxos.testing.history import Operation, Value
from ray_paxos.testing.linearizability.model import (
    REJECTED,
    Model,
    Rejected,
    Transition,
    Unseen,
    is_ok,
)

TextState: TypeAlias = str | Unseen


class AppendKv(Model[TextState]):
    """One key; its state is its text, or `Unseen` for any that no get's text begins with.

    What is appended to such a text is one, too: only a put leads out of it.
    """

    name: ClassVar[str] = "append-kv"
    about: ClassVar[str] = "put, append, get"
    initial: TextState = ""

    def transitions(self, operations: Sequence[Operation]) -> list[Transition[TextState]]:
        """What each operation does; see `Model.transitions`."""
        texts = [
            self._text(operation, operation.result)
            for operation in operations
            if operation.function == "get" and is_ok(operation)
        ]
        seen = _SeenTexts(texts)
        return [self._transition(operation, seen) for operation in operations]

    def _transition(self, operation: Operation, seen: _SeenTexts) -> Transition[TextState]:
        if operation.function == "get":
            return _get(self._text(operation, operation.result) if is_ok(operation) else None)
        if operation.function not in ("put", "append"):
            raise self.refuse_function(operation)
        if operation.argument is None:
            raise self.refuse(operation, "no text to write")
        text = self._text(operation, operation.argument)
        return _put(text, seen) if operation.function == "put" else _append(text, seen)

    def _text(self, operation: Operation, value: Value) -> str:
        """A text of the history; null is the empty one."""
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.refuse(operation, f"{value!r} is no text")
        return value


class _SeenTexts:
    """The texts that gets of one key have seen."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._sorted = sorted(set(texts))

    def state(self, text: str) -> TextState:
        """The state of a key that holds this text."""
        # The texts that begin with it follow each other, from it on.
        first = bisect_left(self._sorted, text)
        if first < len(self._sorted) and self._sorted[first].startswith(text):
            return text
        return Unseen(text)


def _get(seen: str | None) -> Transition[TextState]:
    if seen is None:
        return Transition(lambda state: state, "get", changes=False)

    def apply(state: TextState) -> TextState | Rejected:
        return state if state == seen else REJECTED

    def within_reach(state: TextState) -> bool:
        return not isinstance(state, Unseen) and seen.startswith(state)

    # Without a put, what was appended stays: the text is the beginning of all later ones.
    return Transition(apply, ("get", seen), changes=False, within_reach=within_reach)


def _put(text: str, seen: _SeenTexts) -> Transition[TextState]:
    after = seen.state(text)
    return Transition(lambda _: after, ("put", after), resets=True)


def _append(text: str, seen: _SeenTexts) -> Transition[TextState]:
    def apply(state: TextState) -> TextState | Rejected:
        if isinstance(state, Unseen):
            return Unseen(f"{state.example}{text}")
        return seen.state(state + text)

    return Transition(apply, ("append", text), changes=text != "")
