"""The key-value machine; what its commands and queries mean is in `kv`.

A command that is none of these is refused with the same text on all members; the decoder's own text
is not in it, as it may change with the library's version.

Cost (CPython 3.11, one core): among 100,000 keys a put of 100 bytes takes 1.4 us by `apply` and
0.75 us by `apply_many`, of which half is memory that no cache holds; one tuple a key is faster than
a list, a struct, two dictionaries or lists with a dictionary of places (0.85 to 1.0 us). The digest
and the pages of a dump go over sorted keys. They are sorted when they are asked for and not on
every write: a key is only ever added (tombstones stay), so sorting again merges the few new ones
into a sorted list in linear time (0.07 s for 1,000 new ones beside a million). A digest of a
million keys takes 0.7 s, so it is for comparing states and not for every status. A digest kept up
to date with every write was rejected: it hashes the old and the new entry at 0.5 us each, which
would make every write nearly three times as dear for a number that is asked for once in a while;
the result chain compares members all the time for nothing.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import ClassVar

import msgspec

from ray_paxos.errors import CommandError, NotYetError, QueryError
from ray_paxos.machines.base import DIGEST_BYTES, ApplyContext
from ray_paxos.machines.kv import (
    PAGE_KEYS_MAX,
    TTL_MS_MAX,
    TXN_COMMANDS_MAX,
    Cas,
    Changed,
    Changes,
    Condition,
    Conflict,
    Delete,
    Dump,
    Get,
    HasVersion,
    KeyCommand,
    KeyEntry,
    KeyResult,
    KvCommand,
    KvQuery,
    KvResult,
    Page,
    Put,
    PutFor,
    Read,
    Record,
    Recorded,
    Renew,
    Renewed,
    Txn,
    TxnDone,
    Written,
)
from ray_paxos.machines.kv_history import ANY, History, topic_of_key, topic_of_prefix
from ray_paxos.machines.table import Column, Row, TableMachine
from ray_paxos.machines.times_to_live import TimesToLive

PAGE_BYTES_MAX = 1_000_000
"""A page of a dump ends with the key that reaches this many bytes of keys and values."""
PAGE_SCAN_MAX = 100_000
"""A page looks at so many keys at most; tombstones take no room in it, but time."""
ENDS_MAX = 10_000
"""So many values end in one instance; the others in the next ones."""
TXN_READ_BYTES_MAX = 1_000_000
"""Of the values that are there when a txn is executed."""
WRITTEN_BYTES_MAX = 19
"""The longest encoded `Written`."""
VERSIONS = 1_024
NO_OFFSET = 1 << 30
"""Above any: what the instance of a `Record` has changed before it is not remembered."""
_CHUNK_KEYS = 1_000
_MILLISECOND_NS = 1_000_000

# msgspec lets the decoder's own error through where text is not UTF-8.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
_encode = msgspec.msgpack.Encoder().encode
_decode_command: Callable[[bytes], KvCommand] = msgspec.msgpack.Decoder(KvCommand).decode
_decode_query: Callable[[bytes], KvQuery] = msgspec.msgpack.Decoder(KvQuery).decode
_VALUE_OF, _VERSION_OF = itemgetter(0), itemgetter(1)
_REPLACED = tuple(_encode(Written(version, True)) for version in range(VERSIONS))
"""Results are kept until they are confirmed: most of them are these."""


class KeyValueMachine(TableMachine):
    """Keys (text) to values (bytes), each with a version; and the latest changes, if recorded.

    A checkpoint holds it as a table: one row a key in ascending order, tombstones without a value.

    Invariants: a key's version is the number of writes it has seen; `_sorted_keys` and
    `_new_keys` together hold each key of `_entries` once; whatever is in `_ends` has a value.
    """

    kind: ClassVar[str] = "kv"
    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (
        Column("key", "string"),
        Column("version", "int"),
        Column("value", "bytes", is_nullable=True),
        Column("ends_log_time_ns", "int", is_nullable=True),
    )

    def __init__(self) -> None:
        """Start empty."""
        # Key to (value, version); the value of a tombstone is None.
        self._entries: dict[str, tuple[bytes | None, int]] = {}
        self._sorted_keys: list[str] = []
        self._new_keys: list[str] = []
        self._ends = TimesToLive[str]()
        self._history: History | None = None

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Execute a `KvCommand`.

        Returns:
            An encoded `KvResult`.

        Raises:
            CommandError: The bytes are no command of this machine, or one that means nothing; then
                nothing has changed.
        """
        try:
            decoded = _decode_command(command)
        except _UNREADABLE:
            raise CommandError("not a command of the kv machine") from None
        if type(decoded) is Put:
            # The usual one.
            entry = self._entries.get(decoded.key)
            return _encode(self._write(decoded.key, entry, decoded.value, context))
        return _encode(self._execute(decoded, context))

    def apply_many(
        self, commands: Sequence[bytes], context: ApplyContext, bytes_max: int
    ) -> Sequence[bytes | None]:
        """Execute commands up to the first unreadable one; puts, the usual ones, in place."""
        # Of a write no more is counted than that it is one.
        left = bytes_max - WRITTEN_BYTES_MAX * len(commands)
        if left < 0:
            return ()
        entries, replaced, results = self._entries, _REPLACED, list[bytes]()
        ends = self._ends.by_key
        find, append = entries.get, results.append
        is_recorded = self._history is not None
        for command in commands:
            try:
                decoded = _decode_command(command)
            except _UNREADABLE:
                break
            if type(decoded) is Put:
                key = decoded.key
                entry = find(key)
                if entry is None or is_recorded:
                    append(_encode(self._write(key, entry, decoded.value, context)))
                    continue
                if ends:
                    self._ends.forget(key)
                version = entry[1] + 1
                entries[key] = (decoded.value, version)
                if entry[0] is not None and version < VERSIONS:
                    append(replaced[version])
                else:
                    append(_encode(Written(version, entry[0] is not None)))
                continue
            try:
                result = _encode(self._execute(decoded, context))
            except CommandError:
                break
            is_recorded = self._history is not None
            append(result)
            left -= len(result)
            if left < 0:
                break
        return results

    def _execute(self, command: KvCommand, context: ApplyContext) -> KvResult:
        if isinstance(command, Txn):
            return self._execute_txn(command, context)
        if isinstance(command, Record):
            if self._history is None:
                self._history = History((context.instance_id, NO_OFFSET))
            return Recorded()
        _check_ttl(command)
        return self._execute_one(command, context)

    def _execute_txn(self, txn: Txn, context: ApplyContext) -> TxnDone:
        count = len(txn.conditions) + len(txn.then) + len(txn.otherwise)
        if count > TXN_COMMANDS_MAX:
            raise CommandError(
                f"a txn has at most {TXN_COMMANDS_MAX} conditions and commands, not {count}"
            )
        # Of both lists: whether a txn means something does not depend on the state.
        for command in (*txn.then, *txn.otherwise):
            _check_ttl(command)
        held = all(self._holds(condition) for condition in txn.conditions)
        commands = txn.then if held else txn.otherwise
        read_bytes = sum(
            len(self._entries.get(each.key, (None, 0))[0] or b"")
            for each in commands
            if isinstance(each, Get)
        )
        if read_bytes > TXN_READ_BYTES_MAX:
            raise CommandError(
                f"a txn reads at most {TXN_READ_BYTES_MAX} bytes of values, not {read_bytes}"
            )
        results = tuple(self._execute_one(command, context) for command in commands)
        return TxnDone(held, results)

    def _holds(self, condition: Condition) -> bool:
        value, version = self._entries.get(condition.key, (None, 0))
        if isinstance(condition, HasVersion):
            return condition.version == version
        return condition.value == value

    def _execute_one(self, command: KeyCommand, context: ApplyContext) -> KeyResult:
        key = command.key
        entry = self._entries.get(key)
        match command:
            case Put():
                return self._write(key, entry, command.value, context)
            case Get():
                return _read(entry)
            case Delete():
                return self._write(key, entry, None, context)
            case Cas():
                return self._cas(command, entry, context)
            case PutFor():
                written = self._write(key, entry, command.value, context)
                self._ends.note(key, context.log_time_ns + command.ttl_ms * _MILLISECOND_NS)
                return written
            case Renew():
                return self._renew(command, entry, context.log_time_ns)

    @property
    def due_ns(self) -> int | None:
        """When the first value ends."""
        return self._ends.first_ns

    def on_due(self, context: ApplyContext) -> None:
        """Let end what has come to its end, so many keys at a time."""
        for key in self._ends.take(context.log_time_ns, ENDS_MAX):
            self._write(key, self._entries[key], None, context)

    def query(self, request: bytes) -> bytes:
        """Answer a `Get` with a `Read`, a `Dump` with a `Page`, a `Changes` with a `Changed`.

        Raises:
            NotYetError: Nothing has changed after the position.
            QueryError: None of them, or a limit below 1.
        """
        try:
            query = _decode_query(request)
        except _UNREADABLE as error:
            raise QueryError(f"not a query of the kv machine: {error}") from error
        if isinstance(query, Get):
            return _encode(_read(self._entries.get(query.key)))
        if isinstance(query, Changes):
            return _encode(self._changed(query))
        if query.limit < 1:
            raise QueryError(f"limit {query.limit}: a page holds at least 1 key")
        return _encode(self._page(query))

    def digest(self) -> bytes:
        """Over all keys with their values and versions, tombstones included, in sorted order.

        Takes 0.7 us a key.
        """
        state = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for chunk in self._chunks():
            state.update(chunk)
        if self._ends.by_key:
            state.update(_encode(sorted(self._ends.by_key.items())))
        return state.digest()

    def rows(self) -> Iterator[Row]:
        """All entries, tombstones included, sorted by key."""
        keys, find = self._keys(), self._entries.__getitem__
        return zip(
            keys,
            map(_VERSION_OF, map(find, keys)),
            map(_VALUE_OF, map(find, keys)),
            map(self._ends.by_key.get, keys),
            strict=True,
        )

    def restore(self, rows: Iterable[Row]) -> None:
        """Replace the whole state by saved rows."""
        self._entries, self._ends = {}, TimesToLive[str]()
        self._history = None
        for key, version, value, ends_ns in rows:
            self._entries[key] = (value, version)
            if ends_ns is not None:
                self._ends.note(key, ends_ns)
        self._sorted_keys = []
        self._new_keys = list(self._entries)

    def _changed(self, query: Changes) -> Changed:
        if self._history is None:
            return Changed((), query.instance_id, query.offset, is_compacted=True)
        changed = self._history.changes(query)
        if changed is None:
            raise NotYetError(topic_of_prefix(query.prefix), "nothing has changed yet")
        return changed

    def _write(
        self,
        key: str,
        entry: tuple[bytes | None, int] | None,
        value: bytes | None,
        context: ApplyContext,
    ) -> Written:
        """Store a value, or None for a tombstone, at the next version, without an end."""
        if self._ends.by_key:
            self._ends.forget(key)
        version = 1 if entry is None else entry[1] + 1
        if self._history is not None:
            self._history.add(context.instance_id, key, value, version)
            context.notify(topic_of_key(key))
            context.notify(ANY)
        if entry is None:
            self._new_keys.append(key)
            self._entries[key] = (value, 1)
            return Written(1, False)
        self._entries[key] = (value, version)
        return Written(version, entry[0] is not None)

    def _cas(
        self, cas: Cas, entry: tuple[bytes | None, int] | None, context: ApplyContext
    ) -> Written | Conflict:
        version = entry[1] if entry is not None else 0
        if cas.expected_version != version:
            return Conflict(version)
        return self._write(cas.key, entry, cas.value, context)

    def _renew(
        self, renew: Renew, entry: tuple[bytes | None, int] | None, log_time_ns: int
    ) -> Renewed | Conflict:
        value, version = entry if entry is not None else (None, 0)
        if value is None or renew.expected_version not in (0, version):
            return Conflict(version)
        self._ends.note(renew.key, log_time_ns + renew.ttl_ms * _MILLISECOND_NS)
        return Renewed(version)

    def _page(self, dump: Dump) -> Page:
        keys = self._keys()
        # Keys that start with the prefix follow each other from the prefix itself on.
        start = bisect_left(keys, dump.prefix)
        if dump.after_key is not None:
            start = max(start, bisect_right(keys, dump.after_key))
        limit = min(dump.limit, PAGE_KEYS_MAX)
        entries: list[KeyEntry] = []
        byte_count = 0
        for position in range(start, len(keys)):
            key = keys[position]
            if not key.startswith(dump.prefix):
                break
            if (
                len(entries) == limit
                or byte_count >= PAGE_BYTES_MAX
                or position - start == PAGE_SCAN_MAX
            ):
                return Page(tuple(entries), keys[position - 1])
            value, version = self._entries[key]
            if value is not None:
                entries.append(KeyEntry(key, value, version))
                byte_count += len(key) + len(value)
        return Page(tuple(entries), None)

    def _keys(self) -> list[str]:
        """All keys, tombstones included, sorted."""
        if self._new_keys:
            self._sorted_keys += self._new_keys
            self._sorted_keys.sort()
            self._new_keys = []
        return self._sorted_keys

    def _chunks(self) -> Iterator[bytes]:
        """The whole state in its one canonical form, in parts."""
        keys = self._keys()
        for start in range(0, len(keys), _CHUNK_KEYS):
            chunk = keys[start : start + _CHUNK_KEYS]
            yield _encode((chunk, list(map(self._entries.__getitem__, chunk))))


def _check_ttl(command: KeyCommand) -> None:
    """Refuse what is no time to live, before anything is changed.

    Raises:
        CommandError: Of such a command.
    """
    if isinstance(command, PutFor | Renew) and not 1 <= command.ttl_ms <= TTL_MS_MAX:
        raise CommandError(f"a time to live is 1 to {TTL_MS_MAX} ms, not {command.ttl_ms}")


def _read(entry: tuple[bytes | None, int] | None) -> Read:
    if entry is None:
        return Read(False, 0, None)
    value, version = entry
    return Read(value is not None, version, value)
