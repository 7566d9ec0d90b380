"""The users' traces that a message carries along: text that means nothing to the protocol.

A trace is where a user's span stands, in the form of W3C's `traceparent`
(`00-<trace id>-<span id>-01`, 55 characters); several stand side by side, with a space between.

Rules:

1. A trace is no part of a value, of the log, of a chain or of any decision. With and without traces
   the same is chosen, and at the same time.
2. A client names where its own spans stand. Who makes a span of its own on the way names that
   instead, so that what follows is its child: the shells do, the core hands on what it was given.
3. What is carried is bounded (R10): an instance names the first `TRACES_MAX` of those that it
   holds commands of, and of one trace one place of each request. More than that in one message is
   nobody's, and is dropped.
4. Reading asks nothing of the text. What is no trace is for nobody, and no error.
"""

from __future__ import annotations

from collections.abc import Iterable

TRACES_MAX = 16
"""So many users' traces one message carries."""
TRACE_LENGTH = 55
TEXT_LENGTH_MAX = TRACES_MAX * (TRACE_LENGTH + 1) - 1

_TRACE_ID = slice(3, 35)


def bounded_text(text: str) -> str:
    """What another process sent, where it is no longer than it may be; else nothing."""
    return text if len(text) <= TEXT_LENGTH_MAX else ""


def traces_in(text: str) -> list[str]:
    """The traces of a message, as they stand there."""
    return bounded_text(text).split()


def join_texts(texts: Iterable[str]) -> str:
    """The traces of several messages, as one carries them on.

    Args:
        texts: Of each; may be empty.

    Returns:
        The first `TRACES_MAX` of them.
    """
    found: list[str] = []
    for text in texts:
        if text:
            found += traces_in(text)
            if len(found) >= TRACES_MAX:
                break
    return " ".join(found[:TRACES_MAX])


def join_places(places: Iterable[str]) -> str:
    """Where the spans of commands stand that go in one request, as that carries them.

    Whatever is done for a request is done once. So of the commands of one trace the first one
    stands for all.

    Args:
        places: One trace each; empty for a command that nobody traces.

    Returns:
        Those of the first `TRACES_MAX` traces.
    """
    found: dict[str, str] = {}
    for place in places:
        if place:
            found.setdefault(place[_TRACE_ID], place)
            if len(found) == TRACES_MAX:
                break
    return " ".join(found.values())
