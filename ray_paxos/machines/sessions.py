"""Sessions: each command is applied at most once, in its client's order (R7).

A client numbers its commands from 1 and sends them as often as it must. Of every session the table
keeps three things, all functions of the log alone:

```
   closed for ever      applied, results kept        unseen
  ──────────────────┼─────────────────────────┼──────────────────▶ number
              lowest_open                next_number
```

1. A number below `lowest_open` is closed: refused, whatever it was. The client raises
   `lowest_open`, in any batch, once it needs no result below it any more. It never falls.
2. A number from `lowest_open` on and below `next_number` was applied; its result and its place in
   the log are kept, and are all that a repeated command gets.
3. `next_number` is applied, and only that: a higher number whose predecessor is open and unseen
   is refused and leaves no trace, so it can be sent again. A copy that was delayed is applied
   once its number is the next, and never after.
4. Where `lowest_open` passes `next_number`, the numbers between are closed unapplied, for ever
   (a gap: no copy of them was ever proposed), and `next_number` follows.
5. A client that gives up a number of which a copy may be on its way withdraws it: it sends the
   number again with a `WITHDRAWAL` in place of the command. Whichever of the two the log has
   first counts. If it is the withdrawal, the number's kept result says so, and the command is
   never applied; else the withdrawal gets the command's kept result. So the answer to a withdrawal
   says what became of the number, however often it is lost and asked for again and whoever is
   master then, and `lowest_open` passes the number only once the client has heard it.

The kept numbers are thus contiguous, and are held in runs: one run for what one batch had applied,
which shares the tuple of its results with the answer to the client. A batch whose numbers are all
new costs O(1) here, and a run is dropped whole when it is closed.

Everything is bounded (R10), by `SessionLimits`. Eviction is a function of the log, too:

6. Sessions stand in the order of their last use in the log. One that was not used for `idle_ns` of
   log time may be evicted, the longest unused first; one that was is spared. That is done only
   for want of room, since eviction can cost a client the outcome of its open numbers: when a
   session opens and more than `sessions_spared` are there, and when the results kept for all
   sessions are over `kept_bytes_max`. Two go at a time, so that one entry stays cheap and the
   table shrinks all the same.
7. Where none may go, the opening, or the command, is refused as overload. It leaves no trace.
8. `gone_through` is the highest id that was evicted or ended. A session that is not in the table
   with a lower id has expired, as far as can be known; one with a higher id was never opened, so
   nothing was ever applied in its name.

The limits are constants of this module. They decide what is applied, so they have to be the same on
all members and in all replays of a log (R6): no member's settings may change them. They stand in
the checkpoint and the digest; other ones will need an entry of the log that says from where on.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from ray_paxos.core.results import NoteCode
from ray_paxos.core.values import SESSION_IDLE_NS, SessionId

LABEL_CHARACTERS_MAX = 200
EVICTED_AT_ONCE_MAX = 2
RESULT_OVERHEAD_BYTES = 16
"""What keeping a result takes beside its bytes, about."""

_DIGEST_BYTES = 16
_encode = msgspec.msgpack.Encoder().encode


class SessionLimits(msgspec.Struct, frozen=True, array_like=True):
    """Bounds of a group's sessions.

    Attributes:
        sessions_max: Open sessions; no more are opened.
        sessions_spared: Up to so many nobody is evicted to make room for another session.
        idle_ns: A session used within this much log time is never evicted.
        open_numbers_max: Numbers of a session applied and not confirmed.
        session_bytes_max: Bytes of results kept for a session: above it nothing more of that
            session is applied until it confirms some.
        kept_bytes_max: Bytes of results kept for all sessions: above it nothing more is applied
            of sessions.
    """

    sessions_max: int = 100_000
    sessions_spared: int = 10_000
    idle_ns: int = SESSION_IDLE_NS
    open_numbers_max: int = 100_000
    session_bytes_max: int = 64_000_000
    kept_bytes_max: int = 512_000_000


LIMITS = SessionLimits()


class KeptRun(msgspec.Struct, frozen=True, array_like=True):
    """Results of consecutive numbers that were applied one after the other.

    Attributes:
        first_number: Of the first result.
        instance_id: Where they were applied.
        index: Row of the first; the others follow.
        results: As the machine returned them.
        errors: By offset within `results`, the text of those that are errors.
        byte_count: Of all results and texts, with something for each.
        is_withdrawn: Nothing was applied: the client withdrew these numbers.
    """

    first_number: int
    instance_id: int
    index: int
    results: tuple[bytes | None, ...]
    errors: dict[int, str]
    byte_count: int
    is_withdrawn: bool = False

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.first_number + len(self.results)


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """One session as a checkpoint carries it."""

    session: SessionId
    label: str
    used_at_ns: int
    lowest_open: int
    next_number: int
    kept: tuple[KeptRun, ...]


class TableState(msgspec.Struct, frozen=True, array_like=True):
    """What a checkpoint carries of the table beside its sessions.

    Attributes:
        limits: Under which everything was applied so far.
        gone_through: The highest id that was evicted or ended; None for none.
        evicted: How many were evicted.
    """

    limits: SessionLimits
    gone_through: SessionId | None
    evicted: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What becomes of the commands of one batch: consecutive parts, in this order, any empty.

    Attributes:
        closed: So many from the start are closed.
        kept: So many after them were applied before.
        fresh: So many after them are to be applied now.
        refused: So many at the end are refused unapplied, because of
        reason: this.
    """

    closed: int
    kept: int
    fresh: int
    refused: int
    reason: str


@dataclass(slots=True)
class Session:
    """One client's place in its own order.

    Invariants: `1 <= lowest_open <= next_number`; the runs of `kept` are contiguous, end at
    `next_number`, cover everything from `lowest_open` on, and each reaches above `lowest_open`.
    """

    label: str
    used_at_ns: int
    limits: SessionLimits
    lowest_open: int = 1
    next_number: int = 1
    kept: deque[KeptRun] = field(default_factory=deque)
    kept_bytes: int = 0

    def close_below(self, lowest_open: int) -> None:
        """Close every number below `lowest_open`; nothing happens where they are closed."""
        if lowest_open <= self.lowest_open:
            return
        self.lowest_open = lowest_open
        if lowest_open > self.next_number:
            self.next_number = lowest_open
        kept = self.kept
        while kept and kept[0].end <= lowest_open:
            self.kept_bytes -= kept.popleft().byte_count

    def admit(self, first_number: int, count: int) -> Admission:
        """Say what becomes of `count` commands numbered from `first_number` on."""
        closed = min(max(self.lowest_open - first_number, 0), count)
        kept = min(max(self.next_number - first_number, 0), count) - closed
        rest = count - closed - kept
        if first_number > self.next_number:
            reason = f"number {self.next_number} is next, and {first_number} came"
            return Admission(closed, kept, 0, rest, reason)
        limits = self.limits
        if self.kept_bytes >= limits.session_bytes_max:
            reason = f"{self.kept_bytes} bytes of results are not confirmed yet"
            return Admission(closed, kept, 0, rest, reason)
        fresh = min(rest, self.lowest_open + limits.open_numbers_max - self.next_number)
        reason = ""
        if fresh < rest:
            reason = f"{limits.open_numbers_max} numbers are not confirmed yet"
        return Admission(closed, kept, fresh, rest - fresh, reason)

    def keep(self, run: KeptRun) -> None:
        """Take the results of the numbers from `next_number` on, which are thereby applied."""
        assert run.first_number == self.next_number, "numbers are applied in order"
        self.kept.append(run)
        self.kept_bytes += run.byte_count
        self.next_number = run.end

    def kept_runs(self, first_number: int, count: int) -> Iterator[tuple[KeptRun, int, int]]:
        """The runs that hold these numbers, all of them kept, each with the offsets from-to."""
        end = first_number + count
        position = bisect_right(self.kept, first_number, key=_end_of)
        while first_number < end:
            run = self.kept[position]
            position += 1
            start_at = first_number - run.first_number
            end_at = min(end - run.first_number, len(run.results))
            yield run, start_at, end_at
            first_number = run.end


def _end_of(run: KeptRun) -> int:
    return run.end


class SessionTable:
    """The sessions of a group, as applied. Pure; the same on all members.

    Attributes:
        limits: Never change.
        kept_bytes: Of the results kept for all sessions; the host counts it up and down.
        kept_bytes_max: Of the limits.
        gone_through: As in `TableState`.
        evicted: As in `TableState`.
    """

    def __init__(self, limits: SessionLimits = LIMITS) -> None:
        """Start with no session."""
        self.limits = limits
        self.kept_bytes = 0
        self.kept_bytes_max = limits.kept_bytes_max
        self.gone_through: SessionId | None = None
        self.evicted = 0
        # In the order of last use, the longest unused first.
        self._sessions: OrderedDict[SessionId, Session] = OrderedDict()

    def __len__(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def open(self, session: SessionId, label: str, log_time_ns: int) -> str:
        """Open a session, whose id no session had before; may evict others.

        Returns:
            Why it was refused, for want of room; empty where it is open.
        """
        assert session not in self._sessions, "a place in the log is applied once"
        limits, sessions = self.limits, self._sessions
        for _ in range(EVICTED_AT_ONCE_MAX):
            if len(sessions) < limits.sessions_spared or not self._evict_idle(log_time_ns):
                break
        if len(sessions) >= limits.sessions_max:
            idle_s = limits.idle_ns / 1e9
            return f"{limits.sessions_max} sessions are open, and all were used within {idle_s:g} s"
        sessions[session] = Session(label[:LABEL_CHARACTERS_MAX], log_time_ns, limits)
        return ""

    def use(self, session: SessionId, log_time_ns: int) -> Session | None:
        """The session, used now, or None where there is none of that id."""
        found = self._sessions.get(session)
        if found is not None:
            found.used_at_ns = log_time_ns
            self._sessions.move_to_end(session)
        return found

    def missing(self, session: SessionId) -> NoteCode:
        """What is known of a session that is not there: it has expired, or never was."""
        if self.gone_through is not None and session <= self.gone_through:
            return NoteCode.SESSION_EXPIRED
        return NoteCode.SESSION_UNKNOWN

    def end(self, session: SessionId) -> None:
        """Forget a session that its client ended."""
        self._forget(session)

    def make_room(self, log_time_ns: int) -> str:
        """See to it that another result may be kept, where need be by evicting.

        Returns:
            Why none may be; empty where there is room.
        """
        for _ in range(EVICTED_AT_ONCE_MAX):
            if self.kept_bytes < self.kept_bytes_max or not self._evict_idle(log_time_ns):
                break
        if self.kept_bytes < self.kept_bytes_max:
            return ""
        return f"{self.kept_bytes} bytes of results are kept for all sessions"

    def _evict_idle(self, log_time_ns: int) -> bool:
        """Evict the longest unused session; False where it is not idle, or there is none."""
        oldest = next(iter(self._sessions), None)
        if oldest is None:
            return False
        # Log time never falls, so the order of use is that of `used_at_ns`.
        if log_time_ns - self._sessions[oldest].used_at_ns <= self.limits.idle_ns:
            return False
        self._forget(oldest)
        self.evicted += 1
        return True

    def _forget(self, session: SessionId) -> None:
        self.kept_bytes -= self._sessions.pop(session).kept_bytes
        if self.gone_through is None or session > self.gone_through:
            self.gone_through = session

    @property
    def state(self) -> TableState:
        """What there is beside the sessions, for a checkpoint."""
        return TableState(self.limits, self.gone_through, self.evicted)

    def export(self) -> Iterator[SessionState]:
        """All sessions, for a checkpoint, in the order of last use."""
        for session, state in self._sessions.items():
            yield SessionState(
                session,
                state.label,
                state.used_at_ns,
                state.lowest_open,
                state.next_number,
                tuple(state.kept),
            )

    @classmethod
    def restore(cls, state: TableState, sessions: Iterable[SessionState]) -> SessionTable:
        """The table that `state` and `export` were taken from."""
        table = cls(state.limits)
        table.gone_through = state.gone_through
        table.evicted = state.evicted
        for each in sessions:
            kept_bytes = sum(run.byte_count for run in each.kept)
            table.kept_bytes += kept_bytes
            table._sessions[each.session] = Session(
                each.label,
                each.used_at_ns,
                state.limits,
                each.lowest_open,
                each.next_number,
                deque(each.kept),
                kept_bytes,
            )
        return table

    def digest(self) -> bytes:
        """16 bytes over everything that `state` and `export` give."""
        digest = hashlib.blake2b(_encode(self.state), digest_size=_DIGEST_BYTES)
        for session in self.export():
            encoded = _encode(session)
            digest.update(len(encoded).to_bytes(8, "big"))
            digest.update(encoded)
        return digest.digest()
