"""Commands, results and queries of the key-value machine, and what they mean.

Rules:

1. A key that was never written has version 0. Every put, every delete and every cas that succeeds
   raises the key's version by one; a get and a cas that fails change nothing.
2. A delete leaves a tombstone, which keeps the version and lets it go on rising: a version is
   never used again for another value, so a cas with an old version cannot succeed after the key
   was deleted and written again. A delete works on absent keys, too.
3. A cas writes only if `expected_version` is the stored version (0: never written); else its
   result is a `Conflict` with the version found. To re-create a deleted key, expect the
   tombstone's version, which a get tells.
4. A value may have a time to live. Once log time has passed that, the value ends as by a delete: in
   the first instance that is that late, before its commands, whatever they are. So it lives at
   least so long by the group's own time, which stands still while the group has no master, and
   all members let it end at the same place in the log. Whatever writes the key decides anew: a
   put or a cas without a time to live ends the earlier one. To renew one changes no version.
5. A txn looks at all of its conditions, and then executes one of its two lists of commands, in
   order: nothing comes in between, and all of it is done or, where it is refused, none. Each
   command of the list has its result; a cas in it that fails keeps no other from being done.

6. Changes are told to who watches: once a `Record` was applied, each member remembers the latest
   ones (`kv_history`), and a `Changes` has an answer as soon as there is one after its position. Of
   each key all changes come in order, once; or it is said that some are missing.

Commands, results, queries and answers are msgpack arrays that start with their name, so other
languages can speak them: `["put", key, value]`, `["written", version, replaced]`.

What executes them is in `kv_machine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

PAGE_KEYS_MAX = 10_000
"""A page of a dump has so many keys at most."""
TTL_MS_MAX = 1 << 42
"""139 years."""
TXN_COMMANDS_MAX = 1_000
"""Conditions and commands of a txn; it is executed in one go."""


# A put holds nothing that could be part of a cycle: the garbage collector need not know of it.
class Put(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    tag="put",
    gc=False,
):
    """Command: give the key this value."""

    key: str
    value: bytes


class Get(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="get"):
    """Command, and query: read one key."""

    key: str


class Delete(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="delete"
):
    """Command: leave a tombstone at the key."""

    key: str


class Cas(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="cas"):
    """Command: give the key this value if its version is the expected one (compare and set)."""

    key: str
    value: bytes
    expected_version: int


class PutFor(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="put_for"
):
    """Command: give the key this value, for so long; at least 1 ms."""

    key: str
    value: bytes
    ttl_ms: int


class Renew(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="renew"):
    """Command: let the key's value end so long from now, if its version is the expected one.

    Attributes:
        key: Which.
        ttl_ms: From the log time of this command on; at least 1.
        expected_version: Of the value; 0 for whichever it has.
    """

    key: str
    ttl_ms: int
    expected_version: int


class HasVersion(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="has_version"
):
    """Condition: the key's version is this one; 0: it was never written."""

    key: str
    version: int


class HasValue(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="has_value"
):
    """Condition: the key has this value; None: it has none."""

    key: str
    value: bytes | None


KeyCommand: TypeAlias = Put | Get | Delete | Cas | PutFor | Renew
"""A command about one key."""
Condition: TypeAlias = HasVersion | HasValue


class Txn(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="txn"):
    """Command: one of two lists of commands, by whether all conditions hold.

    Attributes:
        conditions: None of them holds always.
        then: Executed where they hold,
        otherwise: and these where they do not. Together at most `TXN_COMMANDS_MAX`.
    """

    conditions: tuple[Condition, ...]
    then: tuple[KeyCommand, ...]
    otherwise: tuple[KeyCommand, ...]


class Dump(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="dump"):
    """Query: a page of the live keys in ascending order (of their code points).

    Attributes:
        prefix: Only keys that start so; empty for all.
        after_key: Where to go on: the `next_after` of the page before; None for the first page.
        limit: At most so many keys, up to `PAGE_KEYS_MAX`.
    """

    prefix: str
    after_key: str | None
    limit: int


class Record(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="record"
):
    """Command: remember changes from here on, for those who watch; changes no key."""


class Changes(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="changes"
):
    """Query: the changes after a position, as soon as there is one.

    Attributes:
        prefix: Of keys that start so.
        instance_id: The position: all changes of this instance up to
        offset: this one, from 1, are known; 0 for none of them.
    """

    prefix: str
    instance_id: int
    offset: int


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What became of a key.

    Attributes:
        instance_id: Where in the log,
        offset: and which change there, from 1.
        key: Which.
        value: Its value now; None where it has none any more.
        version: Its version now.
    """

    instance_id: int
    offset: int
    key: str
    value: bytes | None
    version: int


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """Answer to a `Changes`.

    Attributes:
        changes: In order; none where some are missing.
        instance_id: The position to go on from: of the last of them,
        offset: as of `Changes`.
        is_compacted: This member does not remember all that came after the position.
    """

    changes: tuple[Change, ...]
    instance_id: int
    offset: int
    is_compacted: bool = False


class Recorded(msgspec.Struct, frozen=True, array_like=True, tag="recorded"):
    """Result of a record: changes of later instances are remembered by who applied it."""


class Written(msgspec.Struct, frozen=True, array_like=True, tag="written"):
    """Result of a put, a delete, or a cas that succeeded.

    Attributes:
        version: The key's version now.
        replaced: Whether the key had a live value before.
    """

    version: int
    replaced: bool


class Read(msgspec.Struct, frozen=True, array_like=True, tag="read"):
    """Result of a get.

    Attributes:
        found: Whether the key has a live value.
        version: Of the value or of the tombstone; 0 if the key was never written.
        value: None where not found.
    """

    found: bool
    version: int
    value: bytes | None


class Renewed(msgspec.Struct, frozen=True, array_like=True, tag="renewed"):
    """Result of a renew that succeeded: the value has this version, as before."""

    version: int


class Conflict(msgspec.Struct, frozen=True, array_like=True, tag="conflict"):
    """Result of a cas, or a renew, that changed nothing: the key's version is this one.

    After a renew it may be the expected one: there is no value any more.
    """

    version: int


KeyResult: TypeAlias = Written | Read | Conflict | Renewed
"""Result of a command about one key."""


class TxnDone(msgspec.Struct, frozen=True, array_like=True, tag="txn_done"):
    """Result of a txn.

    Attributes:
        held: Whether all conditions held: which of the two lists was executed.
        results: One for each command of that list.
    """

    held: bool
    results: tuple[KeyResult, ...]


class KeyEntry(msgspec.Struct, frozen=True, array_like=True):
    """A live key of a page."""

    key: str
    value: bytes
    version: int


class Page(msgspec.Struct, frozen=True, array_like=True, tag="page"):
    """Answer to a `Dump`.

    Each page shows the state at the time it is asked for: a dump of several pages is one cut only
    if nothing is written meanwhile.

    Attributes:
        entries: Ascending by key.
        next_after: `after_key` of the next page; None where there is none. A page may be empty and
            not the last.
    """

    entries: tuple[KeyEntry, ...]
    next_after: str | None


KvCommand: TypeAlias = KeyCommand | Txn | Record
KvResult: TypeAlias = KeyResult | TxnDone | Recorded
KvQuery: TypeAlias = Get | Dump | Changes

_encode = msgspec.msgpack.Encoder().encode
_decode_result: Callable[[bytes], KvResult] = msgspec.msgpack.Decoder(KvResult).decode
_decode_page = msgspec.msgpack.Decoder(Page).decode
_decode_changed = msgspec.msgpack.Decoder(Changed).decode


def encode_put(key: str, value: bytes) -> bytes:
    """The command that gives `key` this value."""
    return _encode(Put(key, value))


def encode_put_for(key: str, value: bytes, ttl_ms: int) -> bytes:
    """The command that gives `key` this value for so many milliseconds of log time."""
    return _encode(PutFor(key, value, ttl_ms))


def encode_renew(key: str, ttl_ms: int, expected_version: int = 0) -> bytes:
    """The command that lets the value of `key` end so many milliseconds from then."""
    return _encode(Renew(key, ttl_ms, expected_version))


def encode_get(key: str) -> bytes:
    """The command, or the query, that reads `key`."""
    return _encode(Get(key))


def encode_delete(key: str) -> bytes:
    """The command that deletes `key`."""
    return _encode(Delete(key))


def encode_cas(key: str, value: bytes, expected_version: int) -> bytes:
    """The command that gives `key` this value if its version is `expected_version`."""
    return _encode(Cas(key, value, expected_version))


def encode_txn(
    conditions: Sequence[Condition],
    then: Sequence[KeyCommand],
    otherwise: Sequence[KeyCommand] = (),
) -> bytes:
    """The command that executes `then` if all conditions hold, else `otherwise`."""
    return _encode(Txn(tuple(conditions), tuple(then), tuple(otherwise)))


def encode_dump(
    prefix: str = "", after_key: str | None = None, limit: int = PAGE_KEYS_MAX
) -> bytes:
    """The query for a page of live keys."""
    return _encode(Dump(prefix, after_key, limit))


def encode_record() -> bytes:
    """The command that has changes remembered."""
    return _encode(Record())


def encode_changes(prefix: str, instance_id: int, offset: int = 0) -> bytes:
    """The query for the changes after a position; has an answer once there is one."""
    return _encode(Changes(prefix, instance_id, offset))


def decode_changed(data: bytes) -> Changed:
    """Read the answer to a query for changes.

    Raises:
        msgspec.DecodeError: Not one of this machine.
    """
    return _decode_changed(data)


def decode_result(data: bytes | None) -> KvResult:
    """Read the result of a command, or the answer to a get.

    Args:
        data: As a client got it; None is the result of no command of this machine.

    Raises:
        msgspec.DecodeError: Not a result of this machine.
    """
    return _decode_result(data or b"")


def decode_page(data: bytes) -> Page:
    """Read the answer to a dump.

    Raises:
        msgspec.DecodeError: Not a page of this machine.
    """
    return _decode_page(data)
