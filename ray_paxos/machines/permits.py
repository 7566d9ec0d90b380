"""The permits machine: resources of which so much may be held at a time, first come, first served.

A lock is a resource of one unit; a semaphore one of n; a lock for readers and a writer one of many,
of which a reader holds one unit and the writer all.

Rules:

1. At no place in the log more units of a resource are held than its capacity. That is what its
   first user says, and holds until nobody holds or waits for any of it; who says another one is
   refused.
2. A holding is a lease: it ends `ttl_ms` of log time after it was granted or last renewed, in the
   first instance that is so late, before its commands, at the same place on all members. The
   holder learns of that only when it asks. So it must do nothing with what it holds for longer
   than it knows to hold it by its own clock, counted from before it asked, and it shows its token
   to whatever it writes to.
3. Every grant has a token above those of all grants before it, of whatever resource: a fencing
   token. A store that refuses tokens below the highest it has seen takes nothing from a holder that
   stood still and has lost its lease meanwhile. A token is never given twice.
4. Who finds no room waits in line, if it wants to, for up to `wait_ms` of log time. What becomes
   free goes to the first in line; while that one does not fit nobody behind it is served, so that
   who wants much is not overtaken for ever. Its lease begins when it is granted.
5. Holders are named by whoever asks. Who asks again by the same name is told what there is: a
   holder its token, one in line its place, where it waits for `wait_ms` from then. To release ends
   whichever of the two it is; once.
6. Who is in line hears of its grant, or that its wait is over, by an `Await`, which has an answer
   only then; and it alone is asked again for it, however many are in line. The answer says what the
   log says, not for how long that is true still: see rule 2.

Commands, results, queries and answers are msgpack arrays that start with their name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

import msgspec

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine
from ray_paxos.machines.times_to_live import TimesToLive

CAPACITY_MAX = 1 << 40
TIME_MS_MAX = 1 << 42
"""139 years."""
LINE_MAX = 10_000
"""So many wait for one resource."""
ENDS_MAX = 1_000
"""So many leases and waits end in one instance; the others in the next ones."""
_MILLISECOND_NS = 1_000_000
_STATE_FILE = "permits"


class Acquire(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="acquire"
):
    """Command: let the holder have so many units of the resource.

    Attributes:
        name: Of the resource.
        holder: As whom.
        units: How many; at most `capacity`.
        capacity: Of the resource.
        ttl_ms: How long the lease runs; at least 1.
        wait_ms: How long to wait in line; 0 for not at all.
    """

    name: str
    holder: str
    units: int
    capacity: int
    ttl_ms: int
    wait_ms: int


class Renew(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="renew"):
    """Command: let the lease with this token run so long from now."""

    name: str
    holder: str
    token: int
    ttl_ms: int


class Release(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="release"
):
    """Command: let the holder hold nothing of the resource, and not wait for it."""

    name: str
    holder: str


class Look(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="look"):
    """Query: who holds a resource, and who waits for it."""

    name: str


class Await(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="await"):
    """Query of one in line: `Granted` once it holds what it asked for.

    `Lost` where it neither holds anything nor waits: its wait is over, or its lease already.
    """

    name: str
    holder: str


class AwaitChange(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="await_change"
):
    """Query: who holds a resource, once that is another one than is known.

    Attributes:
        name: Of the resource.
        known_token: The highest token that anybody held it by, as far as is known; 0 for nobody.
    """

    name: str
    known_token: int


class Granted(msgspec.Struct, frozen=True, array_like=True, tag="granted"):
    """Result: the holder holds what it asked for, with this fencing token."""

    token: int


class Waiting(msgspec.Struct, frozen=True, array_like=True, tag="waiting"):
    """Result of an acquire: it is in line, behind so many others."""

    ahead: int


class Busy(msgspec.Struct, frozen=True, array_like=True, tag="busy"):
    """Result of an acquire that does not wait, or finds the line full: it holds nothing."""


class Released(msgspec.Struct, frozen=True, array_like=True, tag="released"):
    """Result of a release: whether it held something; not where it only waited, or neither."""

    held: bool


class Lost(msgspec.Struct, frozen=True, array_like=True, tag="lost"):
    """Result of a renewal: there is no such lease any more."""


class Holding(msgspec.Struct, array_like=True):
    """One holder.

    Attributes:
        units: What it holds.
        token: Of the grant.
        ends_ns: Log time at which the lease ends.
    """

    units: int
    token: int
    ends_ns: int


class Place(msgspec.Struct, array_like=True):
    """One in line.

    Attributes:
        units: What it wants,
        ttl_ms: and for how long.
        ends_ns: Log time until which it waits.
    """

    units: int
    ttl_ms: int
    ends_ns: int


class Resource(msgspec.Struct, array_like=True):
    """What is known of one resource; also the answer to a `Look`.

    Attributes:
        capacity: How many units there are; 0 for one that nobody uses.
        holdings: By holder, in the order of their tokens.
        line: By holder, the first in line first.
    """

    capacity: int
    holdings: dict[str, Holding] = {}
    line: dict[str, Place] = {}


class _State(msgspec.Struct, array_like=True):
    """What a checkpoint holds."""

    last_token: int
    resources: dict[str, Resource]


PermitCommand: TypeAlias = Acquire | Renew | Release
PermitQuery: TypeAlias = Look | Await | AwaitChange
PermitResult: TypeAlias = Granted | Waiting | Busy | Released | Lost

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
_encode = msgspec.msgpack.Encoder().encode
_decode_command: Callable[[bytes], PermitCommand] = msgspec.msgpack.Decoder(PermitCommand).decode
_decode_result: Callable[[bytes], PermitResult] = msgspec.msgpack.Decoder(PermitResult).decode
_decode_query: Callable[[bytes], PermitQuery] = msgspec.msgpack.Decoder(PermitQuery).decode
_decode_resource = msgspec.msgpack.Decoder(Resource).decode
_decode_state = msgspec.msgpack.Decoder(_State).decode


def encode_acquire(
    name: str, holder: str, *, ttl_ms: int, units: int = 1, capacity: int = 1, wait_ms: int = 0
) -> bytes:
    """The command that lets a holder have units of a resource; see `Acquire`."""
    return _encode(Acquire(name, holder, units, capacity, ttl_ms, wait_ms))


def encode_renew(name: str, holder: str, token: int, ttl_ms: int) -> bytes:
    """The command that lets a lease run so long from then."""
    return _encode(Renew(name, holder, token, ttl_ms))


def encode_release(name: str, holder: str) -> bytes:
    """The command that ends what a holder holds, or waits for."""
    return _encode(Release(name, holder))


def encode_look(name: str) -> bytes:
    """The query for who holds a resource."""
    return _encode(Look(name))


def encode_await(name: str, holder: str) -> bytes:
    """The query of one in line; has an answer once it is there no more."""
    return _encode(Await(name, holder))


def encode_await_change(name: str, known_token: int) -> bytes:
    """The query for who holds a resource; has an answer once that is another one."""
    return _encode(AwaitChange(name, known_token))


def decode_result(data: bytes) -> PermitResult:
    """Read the result of a command, or the answer to an `Await`.

    Raises:
        msgspec.DecodeError: Not a result of this machine.
    """
    return _decode_result(data)


def decode_resource(data: bytes) -> Resource:
    """Read the answer to a `Look` or an `AwaitChange`.

    Raises:
        msgspec.DecodeError: Not an answer of this machine.
    """
    return _decode_resource(data)


class PermitsMachine(StateMachine):
    """Resources by name.

    Invariants: of no resource more is held than its capacity; the first in line does not fit; one
    that nobody holds or waits for is forgotten; `_ends` has every holding and place.
    """

    kind: ClassVar[str] = "permits"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Nobody holds anything."""
        self._last_token = 0
        self._resources: dict[str, Resource] = {}
        self._ends = TimesToLive[tuple[str, str]]()

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Execute a `PermitCommand`.

        Returns:
            An encoded `PermitResult`.

        Raises:
            CommandError: The bytes are no command of this machine, or one that means nothing, or
                the resource has another capacity; nothing has changed.
        """
        try:
            decoded = _decode_command(command)
        except _UNREADABLE:
            raise CommandError("not a command of the permits machine") from None
        match decoded:
            case Acquire():
                return _encode(self._acquire(decoded, context))
            case Renew():
                return _encode(self._renew(decoded, context.log_time_ns))
            case Release():
                return _encode(Released(self._end(decoded.name, decoded.holder, context)))

    @property
    def due_ns(self) -> int | None:
        """When the first lease, or wait, ends."""
        return self._ends.first_ns

    def on_due(self, context: ApplyContext) -> None:
        """Let end what has come to its end, so many at a time, and serve who is in line."""
        for _ in range(ENDS_MAX):
            # One by one: who is served by the end of one lease waits no longer.
            due = self._ends.take(context.log_time_ns, 1)
            if not due:
                return
            ((name, holder),) = due
            self._end(name, holder, context)

    def query(self, request: bytes) -> bytes:
        """Answer a `PermitQuery`: a `Resource`, and to an `Await` a `PermitResult`.

        Raises:
            NotYetError: What is awaited has not happened.
            QueryError: It is none.
        """
        try:
            decoded = _decode_query(request)
        except _UNREADABLE as error:
            raise QueryError(f"not a query of the permits machine: {error}") from error
        resource = self._resources.get(decoded.name, Resource(0))
        match decoded:
            case Look():
                return _encode(resource)
            case Await(holder=holder):
                if holder in resource.line:
                    raise NotYetError(_place_of(decoded.name, holder), "it is in line still")
                holding = resource.holdings.get(holder)
                return _encode(Granted(holding.token) if holding is not None else Lost())
            case AwaitChange(known_token=known_token):
                tokens = [each.token for each in resource.holdings.values()]
                if max(tokens, default=0) == known_token:
                    raise NotYetError(_holders_of(decoded.name), "nobody else holds it yet")
                return _encode(resource)

    def save(self, directory: Path) -> None:
        """Write all into one file."""
        (directory / _STATE_FILE).write_bytes(self._encoded())

    def load(self, directory: Path) -> None:
        """Read it back."""
        state = _decode_state((directory / _STATE_FILE).read_bytes())
        self._last_token, self._resources = state.last_token, state.resources
        self._ends = TimesToLive[tuple[str, str]]()
        for name, resource in state.resources.items():
            for holder, holding in resource.holdings.items():
                self._ends.note((name, holder), holding.ends_ns)
            for holder, place in resource.line.items():
                self._ends.note((name, holder), place.ends_ns)

    def digest(self) -> bytes:
        """Over its one encoding."""
        return hashlib.blake2b(self._encoded(), digest_size=DIGEST_BYTES).digest()

    def _encoded(self) -> bytes:
        # In the order of first use, which depends on the log alone, and is saved.
        return _encode(_State(self._last_token, self._resources))

    # Commands.

    def _acquire(self, acquire: Acquire, context: ApplyContext) -> PermitResult:
        _check(acquire)
        resource = self._resources.get(acquire.name)
        if resource is None:
            resource = self._resources[acquire.name] = Resource(acquire.capacity, {}, {})
        elif resource.capacity != acquire.capacity:
            raise CommandError(
                f"the resource has {resource.capacity} units, not {acquire.capacity}, as long as "
                "anybody holds or waits for any"
            )
        holder = acquire.holder
        holding = resource.holdings.get(holder)
        if holding is not None:
            return Granted(holding.token)
        if holder in resource.line:
            self._wait(acquire, resource.line[holder], context)
            return Waiting(list(resource.line).index(holder))
        if not resource.line and _room(resource) >= acquire.units:
            return Granted(
                self._grant(acquire.name, holder, acquire.units, acquire.ttl_ms, context)
            )
        if not acquire.wait_ms or len(resource.line) >= LINE_MAX:
            return Busy()
        place = resource.line[holder] = Place(acquire.units, acquire.ttl_ms, 0)
        self._wait(acquire, place, context)
        return Waiting(len(resource.line) - 1)

    def _wait(self, acquire: Acquire, place: Place, context: ApplyContext) -> None:
        place.ends_ns = context.log_time_ns + acquire.wait_ms * _MILLISECOND_NS
        self._ends.note((acquire.name, acquire.holder), place.ends_ns)

    def _grant(self, name: str, holder: str, units: int, ttl_ms: int, context: ApplyContext) -> int:
        self._last_token += 1
        ends_ns = context.log_time_ns + ttl_ms * _MILLISECOND_NS
        self._resources[name].holdings[holder] = Holding(units, self._last_token, ends_ns)
        self._ends.note((name, holder), ends_ns)
        context.notify(_holders_of(name))
        return self._last_token

    def _renew(self, renew: Renew, log_time_ns: int) -> PermitResult:
        _check_time("ttl_ms", renew.ttl_ms, 1)
        resource = self._resources.get(renew.name)
        holding = resource.holdings.get(renew.holder) if resource is not None else None
        if holding is None or holding.token != renew.token:
            return Lost()
        holding.ends_ns = log_time_ns + renew.ttl_ms * _MILLISECOND_NS
        self._ends.note((renew.name, renew.holder), holding.ends_ns)
        return Granted(holding.token)

    def _end(self, name: str, holder: str, context: ApplyContext) -> bool:
        """End a holding or a place in line, and serve who is next; whether it was a holding."""
        resource = self._resources.get(name)
        if resource is None:
            return False
        self._ends.forget((name, holder))
        was_held = resource.holdings.pop(holder, None) is not None
        if was_held:
            context.notify(_holders_of(name))
        if resource.line.pop(holder, None) is not None:
            context.notify(_place_of(name, holder))
        while resource.line:
            first, place = next(iter(resource.line.items()))
            if place.units > _room(resource):
                break
            del resource.line[first]
            self._grant(name, first, place.units, place.ttl_ms, context)
            context.notify(_place_of(name, first))
        if not resource.holdings:
            assert not resource.line, "the first in line fits where nobody holds anything"
            del self._resources[name]
        return was_held


def _place_of(name: str, holder: str) -> str:
    """The topic of one in line. Two may share one: then one is asked again in vain."""
    return f"place {name} {holder}"


def _holders_of(name: str) -> str:
    """The topic of who holds a resource."""
    return f"holders {name}"


def _room(resource: Resource) -> int:
    return resource.capacity - sum(each.units for each in resource.holdings.values())


def _check(acquire: Acquire) -> None:
    if not 1 <= acquire.capacity <= CAPACITY_MAX:
        raise CommandError(f"a capacity is 1 to {CAPACITY_MAX}, not {acquire.capacity}")
    if not 1 <= acquire.units <= acquire.capacity:
        raise CommandError(f"units are 1 to {acquire.capacity} here, not {acquire.units}")
    _check_time("ttl_ms", acquire.ttl_ms, 1)
    _check_time("wait_ms", acquire.wait_ms, 0)


def _check_time(what: str, milliseconds: int, least: int) -> None:
    if not least <= milliseconds <= TIME_MS_MAX:
        raise CommandError(f"{what} is {least} to {TIME_MS_MAX}, not {milliseconds}")
