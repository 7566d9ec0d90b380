"""What clients saw of a system: invocations and responses, in the order of real time.

A history is a sequence of events ("Linearizability: A Correctness Condition for Concurrent
Objects", Herlihy and Wing, 1990). An invocation opens an operation; at most one response closes
it, and says one of three things:

- ok: it took effect, between its two events, with this result;
- failed: it certainly never took effect;
- unknown: it takes effect at one moment after its invocation, or never. An operation without a
  response is unknown, too.

One operation comes before another if its response comes before the other's invocation. That order
is all that a checker takes from a history, so it must be true: record the invocation before the
request is sent and the response after the answer has come. What is recorded too wide costs the
checker strength; what is recorded too narrow makes it accuse a system that is right.

Values are what JSON can tell apart, with lists as tuples. `True` equals `1`, as everywhere in
Python: a history that holds both in one place loses the difference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from ray_paxos.errors import InputError

Process: TypeAlias = int | str
"""Who called: one client, thread or actor."""
Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | None"

DEPTH_MAX = 50
"""So many lists may be in each other; reading and comparing values recurses."""


class HistoryFormatError(InputError):
    """A file of a history cannot be read. Names the file, the line and the reason."""


class Outcome(Enum):
    """What is known of an operation's effect."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Invocation:
    """A client is about to ask for something.

    Attributes:
        operation_id: Unique in its history.
        process: Who asks.
        function: What for: a name that the model knows.
        key: On which object; None where there is only one.
        argument: Of the function; None for none.
        time_ns: When, on a clock that all clients of the history share.
    """

    operation_id: int
    process: Process
    function: str
    key: Value
    argument: Value
    time_ns: int


@dataclass(frozen=True, slots=True)
class Response:
    """The client has its answer, or has given up.

    Attributes:
        operation_id: Of the invocation that it answers.
        outcome: What is known of the effect.
        result: What the answer said; None where it is not ok.
        time_ns: When, on the clock of the invocations.
    """

    operation_id: int
    outcome: Outcome
    result: Value
    time_ns: int


Event: TypeAlias = Invocation | Response


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a history, from invocation to response.

    Attributes:
        operation_id: Unique in its history.
        process: Who asked.
        function: What for.
        key: On which object.
        argument: Of the function.
        outcome: Unknown where there is no response.
        result: None unless the outcome is ok.
        invoked_at: Position of the invocation in the history, from 0.
        responded_at: Position of the response; None where there is none.
    """

    operation_id: int
    process: Process
    function: str
    key: Value
    argument: Value
    outcome: Outcome
    result: Value
    invoked_at: int
    responded_at: int | None

    def within(self, events: int) -> Operation:
        """What was known of it after so many events: open where its response came later."""
        if self.responded_at is None or self.responded_at < events:
            return self
        return replace(self, outcome=Outcome.UNKNOWN, result=None, responded_at=None)


@dataclass(frozen=True)
class History:
    """Events in the order of real time.

    Attributes:
        events: Each response comes after its invocation; an operation has at most one.
        lines: Line of each event in the file it was read from, from 1; empty if from no file.
    """

    events: tuple[Event, ...]
    lines: tuple[int, ...] = ()

    def operations(self) -> list[Operation]:
        """All operations, in the order of their invocations."""
        responses = {
            event.operation_id: (position, event)
            for position, event in enumerate(self.events)
            if isinstance(event, Response)
        }
        found = []
        for position, event in enumerate(self.events):
            if isinstance(event, Invocation):
                responded_at, response = responses.get(event.operation_id, (None, None))
                found.append(_operation(event, position, response, responded_at))
        return found


def _operation(
    invocation: Invocation, invoked_at: int, response: Response | None, responded_at: int | None
) -> Operation:
    return Operation(
        operation_id=invocation.operation_id,
        process=invocation.process,
        function=invocation.function,
        key=invocation.key,
        argument=invocation.argument,
        outcome=response.outcome if response is not None else Outcome.UNKNOWN,
        result=response.result if response is not None else None,
        invoked_at=invoked_at,
        responded_at=responded_at,
    )


class HistoryBuilder:
    """Puts events together, in the order of real time, and refuses those that do not fit."""

    def __init__(self) -> None:
        """Start empty."""
        self._events: list[Event] = []
        self._open: set[int] = set()
        self._known: set[int] = set()

    def add(self, event: Event) -> None:
        """Append one event.

        Raises:
            ValueError: An operation is invoked twice, answered twice, or answered without having
                been invoked. Nothing is appended.
        """
        number = event.operation_id
        if isinstance(event, Invocation):
            if number in self._known:
                raise ValueError(f"operation {number} is invoked twice")
            self._known.add(number)
            self._open.add(number)
        elif number in self._open:
            self._open.remove(number)
        elif number in self._known:
            raise ValueError(f"operation {number} is answered twice")
        else:
            raise ValueError(f"operation {number} is answered and was never invoked")
        self._events.append(event)

    def history(self, lines: Iterable[int] = ()) -> History:
        """What was added so far.

        Args:
            lines: Where each event stands in its file; none for none.
        """
        return History(tuple(self._events), tuple(lines))


class HistoryRecorder:
    """Records what the clients of one process do, as they do it.

    All methods may be called from several threads. Events keep the order of the calls, which is
    real time as long as each client calls `invoke` before it sends and the other methods after it
    has the answer. Recorders of several processes are put together by `merge_histories`.
    """

    def __init__(self, sink: Callable[[Event], None] | None = None) -> None:
        """Start empty.

        Args:
            sink: Takes each event before the call that records it returns, so that a process that
                is killed leaves its history behind; None for none. It is never called twice at
                the same time, and must not call the recorder.
        """
        self._lock = threading.Lock()
        self._builder = HistoryBuilder()
        self._sink = sink
        self._next_id = 0

    def invoke(
        self,
        process: Process,
        function: str,
        key: object = None,
        argument: object = None,
        *,
        now_ns: int,
    ) -> int:
        """An operation is about to be sent.

        Args:
            process: Who asks.
            function: What for, in the model's words.
            key: On which object; None where there is only one.
            argument: Of the function; None for none.
            now_ns: The time, on a clock that the recorders to be merged share.

        Returns:
            The operation's id, for its response.

        Raises:
            TypeError: Key or argument is something that JSON has no word for.
        """
        frozen_key, frozen_argument = freeze(key), freeze(argument)
        with self._lock:
            number = self._next_id
            self._next_id += 1
            event = Invocation(number, process, function, frozen_key, frozen_argument, now_ns)
            self._record(event)
        return number

    def ok(self, operation_id: int, result: object = None, *, now_ns: int) -> None:
        """The operation took effect, and this was its result.

        Args:
            operation_id: What `invoke` returned.
            result: What the answer said, in the model's words.
            now_ns: The time.

        Raises:
            TypeError: The result is something that JSON has no word for.
            ValueError: The operation is not open.
        """
        self._respond(operation_id, Outcome.OK, freeze(result), now_ns)

    def failed(self, operation_id: int, *, now_ns: int) -> None:
        """The operation certainly never took effect, and never will.

        Args:
            operation_id: What `invoke` returned.
            now_ns: The time.

        Raises:
            ValueError: The operation is not open.
        """
        self._respond(operation_id, Outcome.FAILED, None, now_ns)

    def unknown(self, operation_id: int, *, now_ns: int) -> None:
        """The client gave up: the operation may take effect at any time, or never.

        Call it only once no answer can come any more; until then leave the operation open, which
        says the same of it.

        Args:
            operation_id: What `invoke` returned.
            now_ns: The time.

        Raises:
            ValueError: The operation is not open.
        """
        self._respond(operation_id, Outcome.UNKNOWN, None, now_ns)

    def history(self) -> History:
        """What was recorded so far."""
        with self._lock:
            return self._builder.history()

    def _respond(self, operation_id: int, outcome: Outcome, result: Value, now_ns: int) -> None:
        with self._lock:
            self._record(Response(operation_id, outcome, result, now_ns))

    def _record(self, event: Event) -> None:
        self._builder.add(event)
        if self._sink is not None:
            self._sink(event)


def merge_histories(histories: Iterable[History]) -> History:
    """Put the histories of several processes into one, by the times of their events.

    Their clocks must be one clock, such as CLOCK_MONOTONIC of one machine. Where times are equal,
    invocations come before responses: then neither operation comes before the other, which can
    hide a fault and never invents one.

    Args:
        histories: Each with ids and times of its own; the ids are given anew.

    Returns:
        One history. It keeps no line numbers.
    """
    events = [
        (event.time_ns, isinstance(event, Response), number, event)
        for number, history in enumerate(histories)
        for event in history.events
    ]
    events.sort(key=lambda item: item[:2])
    builder = HistoryBuilder()
    ids: dict[tuple[int, int], int] = {}
    for _, _, number, event in events:
        merged_id = ids.setdefault((number, event.operation_id), len(ids))
        builder.add(replace(event, operation_id=merged_id))
    return builder.history()


def freeze(value: object, depth: int = 0) -> Value:
    """The value with lists as tuples.

    Args:
        value: What JSON has a word for, but no object.
        depth: In how many lists it stands.

    Raises:
        TypeError: It is, or holds, something else, NaN, or lists in more than `DEPTH_MAX` lists.
    """
    if isinstance(value, (list, tuple)):
        if depth == DEPTH_MAX:
            raise TypeError(f"lists in more than {DEPTH_MAX} lists")
        return tuple(freeze(item, depth + 1) for item in value)
    # NaN is not even equal to itself: no read of it could ever be right.
    if value is None or (isinstance(value, (bool, int, float, str)) and value == value):
        return value
    raise TypeError(
        f"{value!r} is no value of a history: use None, a bool, a number, text, or a list of these"
    )
