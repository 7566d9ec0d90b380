"""The ledgers machine: what jobs came to, by key, so that what was done is not done again.

Rules:

1. At no place in the log a key has more than one owner: the one whose `Begin` was granted last, and
   only while its lease runs, it is not committed and not aborted. Others are told who it is.
2. Every grant has a token above those of all grants before it, of whatever key and ledger: a
   fencing token, which the owner shows to whatever it writes to. A token is never given twice.
3. A key has one outcome at most, from its commit until it is forgotten: by `Forget`, or `keep_ms`
   of log time after it was committed. Until then every `Begin` and commit is told that one.
4. A lease ends `lease_ms` of log time after it was granted or renewed, in the first instance that
   is so late, before its commands, at the same place on all members. Then others may begin, and
   nothing else: until another has begun, the token is as good as before. A commit by it is taken,
   and a renewal lets the lease run again. That is safe, since it is the highest token of the key:
   nobody else can have written by a later one, or committed. Once another has begun, neither is
   taken, for ever, even after that other one is done and forgotten.
5. To abort is to give up the token: others may begin at once, and nothing is committed by it.
6. Owners are named by whoever asks, one name for one attempt to do the work: two that share a name
   share a token. To begin again while the lease runs says the same token, and lets the lease run
   anew. A lease that runs is never cut short by asking, so an owner may count from before it asked.
7. To commit the very same outcome again by the same token says that it is done, and changes
   nothing. To commit another one is lost: `Done` always means that it is the caller's own outcome.
8. A key that nobody is at is remembered for `IDLE_MS` of log time: its attempts count on, and its
   last token stays good (rule 4). Then it is forgotten, and a commit is lost though nobody else has
   begun. A key that is done takes up room until it is forgotten; there is room for `KEYS_MAX`.
9. Who waits for an outcome waits under a topic of that key alone, while it has an owner. It gets
   the outcome, or learns that nobody is at it any more, and may begin itself.

What they say to each other is in `ledger_messages`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import ClassVar

import msgspec

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext, StateMachine
from ray_paxos.machines.ledger_messages import (
    PAGE_KEYS_MAX,
    Abort,
    Aborted,
    AwaitOutcome,
    Begin,
    Commit,
    Done,
    Forget,
    Forgotten,
    KeyState,
    LedgerResult,
    ListKeys,
    Lost,
    Page,
    Renew,
    Running,
    Unknown,
    Won,
    decode_command,
    decode_query,
    encode,
)
from ray_paxos.machines.times_to_live import TimesToLive

TIME_MS_MAX = 1 << 42
"""139 years."""
IDLE_MS = 86_400_000
"""A day."""
OUTCOME_BYTES_MAX = 65_536
"""Of one outcome; of what is larger, commit where it is."""
OUTCOMES_BYTES_MAX = 1 << 28
"""Of all outcomes together."""
KEYS_MAX = 1_000_000
"""Of all ledgers together."""
LENGTH_MAX = 500
"""Characters of a ledger's name, of a key and of an owner; each has one at least."""
PAGE_BYTES_MAX = 1_000_000
"""A page ends with the key that reaches so many bytes."""
ENDS_MAX = 1_000
"""So many leases and times to keep end in one instance; the others in the next ones."""
_MILLISECOND_NS = 1_000_000
_STATE_FILE = "ledgers"


class _Entry(msgspec.Struct, array_like=True):
    """One key.

    Attributes:
        owner: Whose grant was the last.
        attempt: How many grants there were.
        token: Of the last one; 0 once that is aborted.
        is_running: Whether its lease runs.
        outcome: None until it is committed.
        ends_ns: Log time at which the lease ends, or the key is forgotten; 0 for never.
    """

    owner: str
    attempt: int
    token: int
    is_running: bool
    outcome: bytes | None
    ends_ns: int


class _State(msgspec.Struct, array_like=True):
    """What a checkpoint holds."""

    last_token: int
    ledgers: dict[str, dict[str, _Entry]]


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
_decode_state = msgspec.msgpack.Decoder(_State).decode


class LedgersMachine(StateMachine):
    """Ledgers by name.

    Invariants: a key that runs is not done and has a token; one that is not done is in `_ends`, and
    so is one that is kept for some time; a ledger has a key; `_orders` has nothing but sorted keys
    of ledgers as they are.
    """

    kind: ClassVar[str] = "ledgers"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Nothing has been begun."""
        self._last_token = 0
        self._ledgers: dict[str, dict[str, _Entry]] = {}
        self._key_count = self._outcomes_bytes = 0
        self._ends = TimesToLive[tuple[str, str]]()
        self._orders: dict[str, list[str]] = {}

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Execute a `LedgerCommand`.

        Returns:
            An encoded `LedgerResult`.

        Raises:
            CommandError: The bytes are no command of this machine, or one that means nothing, or
                there is no room; nothing has changed.
        """
        try:
            decoded = decode_command(command)
        except _UNREADABLE:
            raise CommandError("not a command of the ledgers machine") from None
        match decoded:
            case Begin():
                return encode(self._begin(decoded, context.log_time_ns))
            case Renew():
                return encode(self._renew(decoded, context.log_time_ns))
            case Commit():
                return encode(self._commit(decoded, context))
            case Abort():
                return encode(Aborted(self._abort(decoded, context)))
            case Forget():
                return encode(Forgotten(self._forget(decoded)))

    @property
    def due_ns(self) -> int | None:
        """When the first lease, or time to keep, ends."""
        return self._ends.first_ns

    def on_due(self, context: ApplyContext) -> None:
        """Let end what has come to its end, so many at a time."""
        for ledger, key in self._ends.take(context.log_time_ns, ENDS_MAX):
            entry = self._ledgers[ledger][key]
            if entry.is_running:
                self._leave(ledger, key, entry, context)
            else:
                self._remove(ledger, key)

    def query(self, request: bytes) -> bytes:
        """Answer a `ListKeys` with a `Page`, the others with a `KeyState`.

        A page behind keys that have come or gone since the last one of its ledger sorts them all:
        0.03 s for 100,000.

        Raises:
            NotYetError: The key whose outcome is waited for has an owner; its topic is of that key.
            QueryError: It is none, or for a page of no keys.
        """
        try:
            decoded = decode_query(request)
        except _UNREADABLE as error:
            raise QueryError(f"not a query of the ledgers machine: {error}") from error
        if isinstance(decoded, ListKeys):
            return encode(self._page(decoded))
        state = _state_of(self._find(decoded.ledger, decoded.key))
        if isinstance(decoded, AwaitOutcome) and isinstance(state, Running):
            raise NotYetError(_topic(decoded.ledger, decoded.key), f"{state.owner!r} is at it")
        return encode(state)

    def save(self, directory: Path) -> None:
        """Write all into one file."""
        (directory / _STATE_FILE).write_bytes(self._encoded())

    def load(self, directory: Path) -> None:
        """Read it back."""
        state = _decode_state((directory / _STATE_FILE).read_bytes())
        self._last_token, self._ledgers = state.last_token, state.ledgers
        self._key_count = self._outcomes_bytes = 0
        self._ends, self._orders = TimesToLive[tuple[str, str]](), {}
        for ledger, entries in state.ledgers.items():
            self._key_count += len(entries)
            for key, entry in entries.items():
                self._outcomes_bytes += len(entry.outcome or b"")
                if entry.ends_ns:
                    self._ends.note((ledger, key), entry.ends_ns)

    def digest(self) -> bytes:
        """Over its one encoding."""
        return hashlib.blake2b(self._encoded(), digest_size=DIGEST_BYTES).digest()

    def _encoded(self) -> bytes:
        # In the order of first use, which depends on the log alone, and is saved.
        return encode(_State(self._last_token, self._ledgers))

    # Commands.

    def _begin(self, begin: Begin, log_time_ns: int) -> LedgerResult:
        for what in (begin.ledger, begin.key, begin.owner):
            if not 1 <= len(what) <= LENGTH_MAX:
                raise CommandError(f"ledger, key and owner have 1 to {LENGTH_MAX} characters")
        _check_time("lease_ms", begin.lease_ms, 1)
        entry = self._find(begin.ledger, begin.key)
        if entry is None:
            if self._key_count >= KEYS_MAX:
                raise CommandError(f"there are {KEYS_MAX} keys already; forget some")
            entry = _Entry(begin.owner, 0, 0, False, None, 0)
            self._ledgers.setdefault(begin.ledger, {})[begin.key] = entry
            self._key_count += 1
            self._orders.pop(begin.ledger, None)
        state = _state_of(entry)
        if isinstance(state, Done) or (isinstance(state, Running) and state.owner != begin.owner):
            return state
        if not entry.is_running:
            self._last_token += 1
            entry.owner, entry.token = begin.owner, self._last_token
            entry.attempt += 1
        return self._run(begin, entry, log_time_ns)

    def _renew(self, renew: Renew, log_time_ns: int) -> LedgerResult:
        _check_time("lease_ms", renew.lease_ms, 1)
        entry = self._find(renew.ledger, renew.key)
        if entry is None or not _is_good(renew.token, entry) or entry.outcome is not None:
            return Lost(_state_of(entry))
        return self._run(renew, entry, log_time_ns)

    def _run(self, asked: Begin | Renew, entry: _Entry, log_time_ns: int) -> Won:
        """Let the lease run, at least as long as it would."""
        ends_ns = log_time_ns + asked.lease_ms * _MILLISECOND_NS
        entry.ends_ns = max(ends_ns, entry.ends_ns) if entry.is_running else ends_ns
        entry.is_running = True
        self._ends.note((asked.ledger, asked.key), entry.ends_ns)
        return Won(entry.token, entry.attempt)

    def _commit(self, commit: Commit, context: ApplyContext) -> LedgerResult:
        _check_time("keep_ms", commit.keep_ms, 0)
        ledger, key, outcome = commit.ledger, commit.key, commit.outcome
        if len(outcome) > OUTCOME_BYTES_MAX:
            raise CommandError(f"an outcome has at most {OUTCOME_BYTES_MAX} bytes")
        entry = self._find(ledger, key)
        if entry is None or not _is_good(commit.token, entry):
            return Lost(_state_of(entry))
        if entry.outcome is not None:
            state = _state_of(entry)
            return state if entry.outcome == outcome else Lost(state)
        if self._outcomes_bytes + len(outcome) > OUTCOMES_BYTES_MAX:
            raise CommandError(f"outcomes have {OUTCOMES_BYTES_MAX} bytes already; forget some")
        self._outcomes_bytes += len(outcome)
        entry.outcome, entry.is_running, entry.ends_ns = outcome, False, 0
        self._ends.forget((ledger, key))
        if commit.keep_ms:
            entry.ends_ns = context.log_time_ns + commit.keep_ms * _MILLISECOND_NS
            self._ends.note((ledger, key), entry.ends_ns)
        context.notify(_topic(ledger, key))
        return _state_of(entry)

    def _abort(self, abort: Abort, context: ApplyContext) -> bool:
        entry = self._find(abort.ledger, abort.key)
        if entry is None or not _is_good(abort.token, entry) or entry.outcome is not None:
            return False
        was_running, entry.token = entry.is_running, 0
        if was_running:
            self._leave(abort.ledger, abort.key, entry, context)
        return was_running

    def _forget(self, forget: Forget) -> bool:
        entry = self._find(forget.ledger, forget.key)
        if entry is None or entry.outcome is None:
            return False
        self._remove(forget.ledger, forget.key)
        return True

    def _leave(self, ledger: str, key: str, entry: _Entry, context: ApplyContext) -> None:
        """Let nobody be at a key that had an owner."""
        entry.is_running = False
        entry.ends_ns = context.log_time_ns + IDLE_MS * _MILLISECOND_NS
        self._ends.note((ledger, key), entry.ends_ns)
        context.notify(_topic(ledger, key))

    def _remove(self, ledger: str, key: str) -> None:
        entry = self._ledgers[ledger].pop(key)
        self._outcomes_bytes -= len(entry.outcome or b"")
        self._key_count -= 1
        self._ends.forget((ledger, key))
        self._orders.pop(ledger, None)
        if not self._ledgers[ledger]:
            del self._ledgers[ledger]

    def _find(self, ledger: str, key: str) -> _Entry | None:
        return self._ledgers.get(ledger, {}).get(key)

    def _page(self, wanted: ListKeys) -> Page:
        if wanted.count_max < 1:
            raise QueryError(f"a page has 1 to {PAGE_KEYS_MAX} keys, not {wanted.count_max}")
        entries = self._ledgers.get(wanted.ledger, {})
        order = self._orders.get(wanted.ledger)
        if order is None:
            order = sorted(entries)
            if entries:
                self._orders[wanted.ledger] = order
        start = max(bisect_left(order, wanted.prefix), bisect_right(order, wanted.start_after))
        limit = min(wanted.count_max, PAGE_KEYS_MAX)
        keys: list[tuple[str, KeyState]] = []
        byte_count = 0
        for position in range(start, len(order)):
            key = order[position]
            if not key.startswith(wanted.prefix):
                break
            if len(keys) == limit or byte_count >= PAGE_BYTES_MAX:
                return Page(tuple(keys), order[position - 1])
            keys.append((key, _state_of(entries[key])))
            byte_count += len(encode(keys[-1]))
        return Page(tuple(keys), None)


def _topic(ledger: str, key: str) -> str:
    # With the length, no two pairs look alike, whatever is in the names.
    return f"{len(ledger)}/{ledger}/{key}"


def _is_good(token: int, entry: _Entry) -> bool:
    """Whether it is the token of the last grant of a key, and not given up."""
    return token == entry.token and token > 0


def _state_of(entry: _Entry | None) -> KeyState:
    if entry is None:
        return Unknown(0)
    if entry.outcome is not None:
        return Done(entry.outcome, entry.owner, entry.attempt, entry.token)
    return Running(entry.owner, entry.attempt) if entry.is_running else Unknown(entry.attempt)


def _check_time(what: str, milliseconds: int, least: int) -> None:
    if not least <= milliseconds <= TIME_MS_MAX:
        raise CommandError(f"{what} is {least} to {TIME_MS_MAX}, not {milliseconds}")
