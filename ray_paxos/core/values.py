"""What an instance chooses: an ordered batch of commands, or internal entries.

A value is encoded once, by the proposer, and stays bytes from there on: acceptors and the wire
carry it without looking inside, its hash is taken over exactly these bytes, and only a learner
that applies it decodes it. Commands of one session that follow each other share one
`CommandBatch`, so that a command costs its own bytes and little more in the log.

Each command is one row of the chosen log and each internal entry is one row; a value without
entries is a no-op and takes one row. `index` counts rows from 0 within the instance.
"""

from __future__ import annotations

import enum
import hashlib
from typing import TypeAlias

import msgspec

from ray_paxos.core.ballot import Ballot

HASH_BYTES = 16
SESSION_IDLE_NS = 600 * 1_000_000_000
"""A session that was used within so much log time is never evicted. Its client goes by it, too: one
that was silent for half as long opens another session for what comes next, and so does not meet
the eviction of one that it does not need any more."""
WITHDRAWAL = ""
"""In place of a machine: the batch's numbers are not applied by anything, in their turn; a number
that was applied before keeps its result (`machines/sessions.py`, rule 5)."""
END_OF_SESSION = 1 << 62
"""As `lowest_open`: the client needs nothing of its session any more; the group forgets it."""
EMPTY_CHAIN = bytes(HASH_BYTES)


class SessionId(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One client's identity: the place in the log of the entry that opened its session.

    The index keeps two sessions apart that were opened in one instance.
    """

    instance_id: int
    index: int


class CommandBatch(msgspec.Struct, frozen=True, array_like=True, tag="commands"):
    """Commands of one session for one machine, with consecutive numbers.

    Attributes:
        session: Whose commands these are.
        lowest_open: Every number below it is closed for ever: its result is confirmed or given up.
            `END_OF_SESSION` ends the session.
        first_number: Of the first command; the others follow one by one.
        machine: Name of the state machine that applies them; or `WITHDRAWAL`, and the commands,
            which are empty then, only stand for their numbers.
        commands: In the order in which the client submitted them.
    """

    session: SessionId
    lowest_open: int
    first_number: int
    machine: str
    commands: tuple[bytes, ...]


class SessionOpen(msgspec.Struct, frozen=True, array_like=True, tag="session"):
    """Opens a session; its id is the row's place in the log.

    Attributes:
        label: What a person calls the client; shown in status only.
    """

    label: str


class MasterRecord(msgspec.Struct, frozen=True, array_like=True, tag="master"):
    """First entry of each reign: who leads from here, at which ballot.

    Attributes:
        ballot: The master's. Its member_id names the master.
    """

    ballot: Ballot


class MachineMount(msgspec.Struct, frozen=True, array_like=True, tag="machine"):
    """Mounts a state machine in the group, on all members at this instance.

    Attributes:
        name: The machine's name in the group.
        kind: The registered class that runs it.
        version: Of that class.
    """

    name: str
    kind: str
    version: int


class MembershipKind(enum.IntEnum):
    """What becomes of a member in a group."""

    ADD = 1
    """It gets the group, as a follower."""
    PROMOTE = 2
    """A follower votes from here on, as a replica of its own."""
    DEMOTE = 3
    """A voter is a follower from here on."""
    REMOVE = 4
    """It has the group no more."""


class MembershipEntry(msgspec.Struct, frozen=True, array_like=True, tag="membership"):
    """Changes who has the group, or who votes; alone in its instance.

    Attributes:
        kind: What becomes of the member.
        member_id: Which.
        expected_config_id: The configuration that is to be changed: under any other one the entry
            does nothing, so that of two who change the same one only one succeeds.
        name: Of a member that is added, where the genesis does not name it: so that all who have
            the group know how to reach it. Else empty.
    """

    kind: MembershipKind
    member_id: int
    expected_config_id: int
    name: str = ""


Entry: TypeAlias = CommandBatch | SessionOpen | MasterRecord | MachineMount | MembershipEntry


class Value(msgspec.Struct, frozen=True, array_like=True):
    """What one instance chooses.

    Attributes:
        log_time_ns: The group's own time, in nanoseconds since the group's first entry. It may be
            lower than that of the instance before, where a new master adopted values of several
            earlier reigns: log time, the only clock that state machines see, is the highest so far.
        entries: In order; empty for a no-op.
    """

    log_time_ns: int
    entries: tuple[Entry, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Value)
_MEMBERSHIP_TAG = b"\xaamembership"
_FIRST_TAG_BYTES = 27
"""The first entry's tag ends before: it comes after the heads of three arrays and the log time."""


def encode_value(value: Value) -> bytes:
    """The bytes that acceptors vote for."""
    return _encoder.encode(value)


def decode_value(encoded: bytes) -> Value:
    """Read a value back.

    Raises:
        msgspec.DecodeError: The bytes are no value of this format.
    """
    try:
        return _decoder.decode(encoded)
    except UnicodeDecodeError as error:
        # msgspec lets this one through where text is not UTF-8.
        raise msgspec.DecodeError(f"not a value: {error}") from error


def membership_entry(encoded: bytes) -> MembershipEntry | None:
    """The membership entry that a value is, or None for any other value, or none at all.

    Every learned value is asked, so others are told apart by a look at their beginning.
    """
    if _MEMBERSHIP_TAG not in encoded[:_FIRST_TAG_BYTES]:
        return None
    try:
        entries = decode_value(encoded).entries
    except msgspec.DecodeError:
        return None
    if len(entries) == 1 and isinstance(entries[0], MembershipEntry):
        return entries[0]
    return None


def value_hash(encoded: bytes) -> bytes:
    """16 bytes that stand for an encoded value (BLAKE2b)."""
    return hashlib.blake2b(encoded, digest_size=HASH_BYTES).digest()


def extend_chain(chain: bytes, link: bytes) -> bytes:
    """The chain after one more instance.

    Args:
        chain: 16 bytes: the chain up to the instance before (`EMPTY_CHAIN` before the first).
        link: For the value chain the value's hash; for the result chain the encoded results.

    Returns:
        16 bytes that two members share only if they share the whole sequence.
    """
    return hashlib.blake2b(chain + link, digest_size=HASH_BYTES).digest()


def row_count(value: Value) -> int:
    """How many rows of the chosen log the value takes (at least one)."""
    rows = 0
    for entry in value.entries:
        rows += len(entry.commands) if isinstance(entry, CommandBatch) else 1
    return max(rows, 1)
