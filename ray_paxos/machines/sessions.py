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
   (a gap that the client made by giving a command up), and `next_number` follows.

The kept numbers are thus contiguous, and are held in runs: one run for what one batch had applied,
which shares the tuple of its results with the answer to the client. A batch whose numbers are all
new costs O(1) here, and a run is dropped whole when it is closed.

Everything is bounded (R10) by constants, not by settings: another limit would apply the same log
differently. `OPEN_NUMBERS_MAX` numbers of a session can be open and applied, with
`KEPT_BYTES_MAX` bytes of results; a session over either has to confirm some first. The table
holds `SESSIONS_MAX` sessions, in the order of their last use in the log, which is the order in
which idle ones will be evicted.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from ray_paxos.core.values import SessionId

SESSIONS_MAX = 100_000
OPEN_NUMBERS_MAX = 100_000
KEPT_BYTES_MAX = 64_000_000
LABEL_CHARACTERS_MAX = 200

_DIGEST_BYTES = 16
_encode = msgspec.msgpack.Encoder().encode


class KeptRun(msgspec.Struct, frozen=True, array_like=True):
    """Results of consecutive numbers that were applied one after the other.

    Attributes:
        first_number: Of the first result.
        instance_id: Where they were applied.
        index: Row of the first; the others follow.
        results: As the machine returned them.
        errors: By offset within `results`, the text of those that are errors.
        byte_count: Of all results and texts.
    """

    first_number: int
    instance_id: int
    index: int
    results: tuple[bytes | None, ...]
    errors: dict[int, str]
    byte_count: int

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
        if self.kept_bytes >= KEPT_BYTES_MAX:
            reason = f"{self.kept_bytes} bytes of results are not confirmed yet"
            return Admission(closed, kept, 0, rest, reason)
        fresh = min(rest, self.lowest_open + OPEN_NUMBERS_MAX - self.next_number)
        reason = f"{OPEN_NUMBERS_MAX} numbers are not confirmed yet" if fresh < rest else ""
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
    """The sessions of a group, as applied. Pure; the same on all members."""

    def __init__(self) -> None:
        """Start with no session."""
        # In the order of last use, the longest unused first.
        self._sessions: OrderedDict[SessionId, Session] = OrderedDict()

    def __len__(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def open(self, session: SessionId, label: str, log_time_ns: int) -> str:
        """Open a session, whose id no session had before.

        Returns:
            Why it was refused; empty where it is open.
        """
        assert session not in self._sessions, "a place in the log is applied once"
        if len(self._sessions) >= SESSIONS_MAX:
            return f"the group has {SESSIONS_MAX} sessions open, which is its limit"
        self._sessions[session] = Session(label[:LABEL_CHARACTERS_MAX], log_time_ns)
        return ""

    def use(self, session: SessionId, log_time_ns: int) -> Session | None:
        """The session, used now, or None where there is none of that id."""
        found = self._sessions.get(session)
        if found is not None:
            found.used_at_ns = log_time_ns
            self._sessions.move_to_end(session)
        return found

    def export(self) -> Iterator[SessionState]:
        """Everything there is, for a checkpoint, in the order of last use."""
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
    def restore(cls, states: Iterable[SessionState]) -> SessionTable:
        """The table that `export` gave these states of."""
        table = cls()
        for state in states:
            table._sessions[state.session] = Session(
                state.label,
                state.used_at_ns,
                state.lowest_open,
                state.next_number,
                deque(state.kept),
                sum(run.byte_count for run in state.kept),
            )
        return table

    def digest(self) -> bytes:
        """16 bytes over everything that `export` gives."""
        state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for session in self.export():
            encoded = _encode(session)
            state.update(len(encoded).to_bytes(8, "big"))
            state.update(encoded)
        return state.digest()
