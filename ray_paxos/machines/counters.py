"""The counters machine: numbers by name that are counted up and down, and ids given out in blocks.

Rules:

1. A counter is at 0 until it is changed, and whenever it is back at 0 it is as one never used. Its
   value fits into 64 bits, signed. What would carry it beyond is refused, and changes nothing.
2. A `Set` that names what it expects is done only while the counter is at that; else it says what
   it is at instead. So whoever reads, reckons and sets loses no change of another.
3. The first `Take` of a name that is at 0 makes it an allocator, and it stays one for ever. Its
   value is the last id that is gone; ids begin at 1.
4. An allocator gives no id twice: it only ever rises. It is refused to add to it, to drop it, and
   to set it below where it is; to set it above skips ids, which nobody gets. A counter that is not
   at 0 gives no ids. An allocator is never forgotten, since it would begin at 1 again: its name is
   taken for good, and there is room for `NAMES_MAX`.
5. A `Take` whose result is lost has taken its ids all the same. Whoever takes anew, under another
   number of its session or in another session, leaves a gap, and gets no id of another.
6. Who waits for a counter to reach a value waits under its name, and is asked again whenever it
   has risen. A counter that has fallen again by then has no answer: one sees what is, not what was.

Commands, results and queries are msgpack arrays that start with their name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

import msgspec

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine

VALUE_MIN = -(1 << 63)
VALUE_MAX = (1 << 63) - 1
COUNT_MAX = 1 << 32
"""So many ids are given at once."""
NAMES_MAX = 1_000_000
"""Of allocators, and of counters that are not at 0, together."""
NAME_LENGTH_MAX = 500
"""Characters."""
_STATE_FILE = "counters"


class Add(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="add"):
    """Command: add to a counter.

    Attributes:
        name: Of the counter.
        amount: How much; may be below 0.
    """

    name: str
    amount: int


class Take(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="take"):
    """Command: give the next ids of an allocator.

    Attributes:
        name: Of the allocator.
        count: How many; 1 to `COUNT_MAX`.
    """

    name: str
    count: int


class Set(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="set"):
    """Command: let a counter be at a value, or skip the ids of an allocator up to one.

    Attributes:
        name: Of the counter.
        value: What it is to be at.
        expected: Only if it is at this; None for in any case.
    """

    name: str
    value: int
    expected: int | None


class Drop(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="drop"):
    """Command: let a counter be at 0."""

    name: str


class Get(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="get"):
    """Query: what a counter is at; of an allocator, the last id that is gone."""

    name: str


class Reached(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="reached"
):
    """Query: what a counter is at, once that is at least so much."""

    name: str
    at_least: int


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="counted"):
    """Result: what the counter is at now; of a drop, what it was at. The answer to all queries."""

    value: int


class Taken(msgspec.Struct, frozen=True, array_like=True, tag="taken"):
    """Result of a take: the ids from this one on, as many as were asked for."""

    first: int


class Differs(msgspec.Struct, frozen=True, array_like=True, tag="differs"):
    """Result of a set that expected something else: the counter is at this, as before."""

    value: int


class _State(msgspec.Struct, array_like=True):
    """What a checkpoint holds."""

    counters: dict[str, int]
    allocators: dict[str, int]


CounterCommand: TypeAlias = Add | Take | Set | Drop
CounterResult: TypeAlias = Counted | Taken | Differs
CounterQuery: TypeAlias = Get | Reached

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
_encode = msgspec.msgpack.Encoder().encode
_decode_command: Callable[[bytes], CounterCommand] = msgspec.msgpack.Decoder(CounterCommand).decode
_decode_result: Callable[[bytes], CounterResult] = msgspec.msgpack.Decoder(CounterResult).decode
_decode_query: Callable[[bytes], CounterQuery] = msgspec.msgpack.Decoder(CounterQuery).decode
_decode_counted = msgspec.msgpack.Decoder(Counted).decode
_decode_state = msgspec.msgpack.Decoder(_State).decode


def encode_add(name: str, amount: int = 1) -> bytes:
    """The command that adds to a counter; see `Add`.

    Raises:
        OverflowError: The amount has more than 64 bits.
    """
    return _encode(Add(name, amount))


def encode_take(name: str, count: int = 1) -> bytes:
    """The command that takes ids from an allocator; see `Take`.

    Raises:
        OverflowError: The count has more than 64 bits.
    """
    return _encode(Take(name, count))


def encode_set(name: str, value: int, expected: int | None = None) -> bytes:
    """The command that sets a counter; see `Set`.

    Raises:
        OverflowError: One of the values has more than 64 bits.
    """
    return _encode(Set(name, value, expected))


def encode_drop(name: str) -> bytes:
    """The command that lets a counter be at 0."""
    return _encode(Drop(name))


def encode_get(name: str) -> bytes:
    """The query for what a counter is at."""
    return _encode(Get(name))


def encode_reached(name: str, at_least: int) -> bytes:
    """The query for what a counter is at, once that is at least so much.

    Raises:
        OverflowError: The value has more than 64 bits.
    """
    return _encode(Reached(name, at_least))


def decode_result(data: bytes) -> CounterResult:
    """Read the result of a command.

    Raises:
        msgspec.DecodeError: Not a result of this machine.
    """
    return _decode_result(data)


def decode_value(data: bytes) -> int:
    """Read the answer to a query.

    Raises:
        msgspec.DecodeError: Not an answer of this machine.
    """
    return _decode_counted(data).value


class CountersMachine(StateMachine):
    """Counters and allocators by name.

    Invariants: no name is of both; no counter is at 0, no allocator below 1; an allocator is never
    forgotten and never falls; all values are `VALUE_MIN` to `VALUE_MAX`.
    """

    kind: ClassVar[str] = "counters"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """All are at 0."""
        self._counters: dict[str, int] = {}
        self._allocators: dict[str, int] = {}

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Execute a `CounterCommand`.

        Returns:
            An encoded `CounterResult`.

        Raises:
            CommandError: The bytes are no command of this machine, or one that means nothing or
                that the rules refuse; nothing has changed.
        """
        try:
            decoded = _decode_command(command)
        except _UNREADABLE:
            raise CommandError("not a command of the counters machine") from None
        if len(decoded.name) > NAME_LENGTH_MAX:
            raise CommandError(f"a name has at most {NAME_LENGTH_MAX} characters")
        match decoded:
            case Add():
                return _encode(self._add(decoded, context))
            case Take():
                return _encode(self._take(decoded, context))
            case Set():
                return _encode(self._set(decoded, context))
            case Drop():
                return _encode(self._drop(decoded, context))

    def query(self, request: bytes) -> bytes:
        """Answer a `CounterQuery` with a `Counted`.

        Raises:
            NotYetError: The counter has not reached what was asked for; its topic is the name.
            QueryError: It is none.
        """
        try:
            decoded = _decode_query(request)
        except _UNREADABLE as error:
            raise QueryError(f"not a query of the counters machine: {error}") from error
        value = self._value(decoded.name)
        if isinstance(decoded, Reached) and value < decoded.at_least:
            raise NotYetError(decoded.name, f"the counter is at {value}, not {decoded.at_least}")
        return _encode(Counted(value))

    def save(self, directory: Path) -> None:
        """Write all into one file."""
        (directory / _STATE_FILE).write_bytes(self._encoded())

    def load(self, directory: Path) -> None:
        """Read it back."""
        state = _decode_state((directory / _STATE_FILE).read_bytes())
        self._counters, self._allocators = state.counters, state.allocators

    def digest(self) -> bytes:
        """Over its one encoding."""
        return hashlib.blake2b(self._encoded(), digest_size=DIGEST_BYTES).digest()

    def _encoded(self) -> bytes:
        # In the order of first use, which depends on the log alone, and is saved.
        return _encode(_State(self._counters, self._allocators))

    def _value(self, name: str) -> int:
        return self._counters.get(name) or self._allocators.get(name, 0)

    # Commands.

    def _add(self, add: Add, context: ApplyContext) -> CounterResult:
        if add.name in self._allocators:
            raise CommandError("nothing is added to what gives ids; take some")
        value = self._value(add.name) + add.amount
        self._put(add.name, value, context)
        return Counted(value)

    def _take(self, take: Take, context: ApplyContext) -> CounterResult:
        if not 1 <= take.count <= COUNT_MAX:
            raise CommandError(f"a count is 1 to {COUNT_MAX}, not {take.count}")
        if take.name in self._counters:
            raise CommandError("a counter that is not at 0 gives no ids")
        last = self._value(take.name)
        _check_value(last + take.count)
        if take.name not in self._allocators:
            self._check_room()
        self._allocators[take.name] = last + take.count
        context.notify(take.name)
        return Taken(last + 1)

    def _set(self, wanted: Set, context: ApplyContext) -> CounterResult:
        _check_value(wanted.value)
        value = self._value(wanted.name)
        if wanted.expected is not None and value != wanted.expected:
            return Differs(value)
        if wanted.name not in self._allocators:
            self._put(wanted.name, wanted.value, context)
        elif wanted.value >= value:
            self._allocators[wanted.name] = wanted.value
            context.notify(wanted.name)
        else:
            raise CommandError(f"ids up to {value} are gone: it cannot be set to {wanted.value}")
        return Counted(wanted.value)

    def _drop(self, drop: Drop, context: ApplyContext) -> CounterResult:
        if drop.name in self._allocators:
            raise CommandError("what gives ids is never dropped: it would give them again")
        value = self._value(drop.name)
        self._put(drop.name, 0, context)
        return Counted(value)

    def _put(self, name: str, value: int, context: ApplyContext) -> None:
        """Let a counter, which is no allocator, be at a value."""
        _check_value(value)
        before = self._counters.get(name, 0)
        if value and not before:
            self._check_room()
        if value:
            self._counters[name] = value
        else:
            self._counters.pop(name, None)
        if value > before:
            context.notify(name)

    def _check_room(self) -> None:
        if len(self._counters) + len(self._allocators) >= NAMES_MAX:
            raise CommandError(f"there are {NAMES_MAX} counters already; drop some")


def _check_value(value: int) -> None:
    if not VALUE_MIN <= value <= VALUE_MAX:
        raise CommandError(f"a value is {VALUE_MIN} to {VALUE_MAX}, not {value}")
