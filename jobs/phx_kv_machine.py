"""The state machine of `phx_kv.py`, in a module of its own: members import it by its name.

In a configuration: `machines: {phx_kv: "phx_kv_machine:PhxKvMachine"}`. Rules, as of PhxKV:

1. A record has a value and a version; a key that was never written has version 0.
2. A put and a delete name the version that they expect. Is it the record's, they are done and the
   version rises by one; else it is a conflict, and nothing changes.
3. A delete leaves a record without a value, and works on keys that were never written. To write
   the key again, expect the version that a get gives.

Checkpoints are its own, too: `save` writes one file in a format of its own, whose first part says
which, and `load` reads it. Members make them, hand them to each other, and load them.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from pathlib import Path

import msgspec

from ray_paxos import ApplyContext, CommandError, QueryError, StateMachine

FORMAT = "phx_kv 1"
FILE = "records.msgpack"


class Status(IntEnum):
    """What became of a call: PhxKV's own numbers."""

    SUCCESS = 0
    FAILED = -1
    KEY_MISSING = 1
    VERSION_CONFLICT = -11
    VERSION_TOO_OLD = -12
    MASTER_REDIRECT = 10
    NO_MASTER = 101


class Put(msgspec.Struct, frozen=True, array_like=True, tag="put"):
    """Command: a value, if the record's version is this one."""

    key: str
    value: bytes
    version: int


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="delete"):
    """Command: no value any more, if the record's version is this one."""

    key: str
    version: int


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """Result and answer.

    Attributes:
        status: What became of it.
        version: Of the record, now.
        value: Its value; None where it has none, and in results.
    """

    status: Status
    version: int
    value: bytes | None = None


class Record(msgspec.Struct, array_like=True):
    """What is stored by a key; one without a value was deleted."""

    value: bytes | None
    version: int


class PhxKvMachine(StateMachine):
    """Records by key."""

    kind = "phx_kv"

    def __init__(self) -> None:
        """No records."""
        self._records: dict[str, Record] = {}

    def apply(self, command: bytes, context: ApplyContext) -> bytes:
        """Execute a put or a delete."""
        try:
            decoded = msgspec.msgpack.decode(command, type=Put | Delete)
        except msgspec.DecodeError as error:
            raise CommandError("neither a put nor a delete") from error
        found = self._records.get(decoded.key, Record(None, 0))
        if decoded.version != found.version:
            return msgspec.msgpack.encode(Reply(Status.VERSION_CONFLICT, found.version))
        value = decoded.value if isinstance(decoded, Put) else None
        self._records[decoded.key] = Record(value, found.version + 1)
        return msgspec.msgpack.encode(Reply(Status.SUCCESS, found.version + 1))

    def query(self, request: bytes) -> bytes:
        """The record of a key, which is the request."""
        try:
            found = self._records.get(request.decode(), Record(None, 0))
        except UnicodeDecodeError as error:
            raise QueryError("a key is text") from error
        status = Status.KEY_MISSING if found.value is None else Status.SUCCESS
        return msgspec.msgpack.encode(Reply(status, found.version, found.value))

    def save(self, directory: Path) -> None:
        """Make a checkpoint."""
        state = msgspec.msgpack.encode((FORMAT, sorted(self._records.items())))
        (directory / FILE).write_bytes(state)

    def load(self, directory: Path) -> None:
        """Take over a checkpoint, of this member's own or of another's."""
        saved = msgspec.msgpack.decode(
            (directory / FILE).read_bytes(), type=tuple[str, list[tuple[str, Record]]]
        )
        if saved[0] != FORMAT:
            raise ValueError(f"found format {saved[0]!r}; allowed: {FORMAT!r}")
        self._records = dict(saved[1])

    def digest(self) -> bytes:
        """Over the records in the order of their keys, whatever order they were written in."""
        state = msgspec.msgpack.encode(sorted(self._records.items()))
        return hashlib.blake2b(state, digest_size=16).digest()
