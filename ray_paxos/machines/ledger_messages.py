"""Commands, results, queries and answers of the ledgers machine; their meaning is in `ledgers`.

They are msgpack arrays that start with their name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

PAGE_KEYS_MAX = 1_000
"""A page has so many keys at most."""


class Begin(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="begin"):
    """Command: let an owner do the work of a key, if it is not done and nobody is at it."""

    ledger: str
    key: str
    owner: str
    lease_ms: int


class Renew(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="renew"):
    """Command: let the lease with this token run so long from now."""

    ledger: str
    key: str
    token: int
    lease_ms: int


class Commit(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="commit"
):
    """Command: let this be the outcome, for `keep_ms` from now; with 0, until it is forgotten."""

    ledger: str
    key: str
    token: int
    outcome: bytes
    keep_ms: int


class Abort(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="abort"):
    """Command: give up the token, and let others begin."""

    ledger: str
    key: str
    token: int


class Forget(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="forget"
):
    """Command: forget the outcome of a key that is done, so that the work can be done again."""

    ledger: str
    key: str


class Look(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="look"):
    """Query: what a key has come to."""

    ledger: str
    key: str


class AwaitOutcome(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="await_outcome"
):
    """Query: what a key has come to, once it has no owner."""

    ledger: str
    key: str


class ListKeys(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="list_keys"
):
    """Query: the keys with a prefix behind another one ("" for all), `count_max` at most."""

    ledger: str
    prefix: str
    start_after: str
    count_max: int


class Won(msgspec.Struct, frozen=True, array_like=True, tag="won"):
    """Result: the owner's lease runs.

    Attributes:
        token: Its fencing token.
        attempt: How many grants the key has seen, with this one, as far as is remembered.
    """

    token: int
    attempt: int


class Unknown(msgspec.Struct, frozen=True, array_like=True, tag="unknown"):
    """Nobody is at the key, and it is not done; it has seen so many grants, as far as is known."""

    attempts: int


class Running(msgspec.Struct, frozen=True, array_like=True, tag="running"):
    """This owner is at the key, in its attempt of this number, from 1."""

    owner: str
    attempt: int


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """The key is done, by this owner under this token; of a commit: by this very one."""

    outcome: bytes
    owner: str
    attempt: int
    token: int


KeyState: TypeAlias = Unknown | Running | Done


class Lost(msgspec.Struct, frozen=True, array_like=True, tag="lost"):
    """Result of a renewal or commit whose token is good for nothing more: it has changed nothing.

    Attributes:
        now: What the key has come to.
    """

    now: KeyState


class Aborted(msgspec.Struct, frozen=True, array_like=True, tag="aborted"):
    """Result of an abort: whether the lease ran; not where it had ended, or was another's."""

    was_running: bool


class Forgotten(msgspec.Struct, frozen=True, array_like=True, tag="forgotten"):
    """Result of a forget: whether the key was done; where it was not, it is as it was."""

    was_done: bool


class Page(msgspec.Struct, frozen=True, array_like=True, tag="page"):
    """Answer to a `ListKeys`.

    Attributes:
        keys: Ascending, each with what it has come to.
        next_after: `start_after` of the next page; None where there is none.
    """

    keys: tuple[tuple[str, KeyState], ...]
    next_after: str | None


LedgerCommand: TypeAlias = Begin | Renew | Commit | Abort | Forget
LedgerResult: TypeAlias = Won | Unknown | Running | Done | Lost | Aborted | Forgotten
LedgerQuery: TypeAlias = Look | AwaitOutcome | ListKeys

encode = msgspec.msgpack.Encoder().encode
decode_command: Callable[[bytes], LedgerCommand] = msgspec.msgpack.Decoder(LedgerCommand).decode
decode_query: Callable[[bytes], LedgerQuery] = msgspec.msgpack.Decoder(LedgerQuery).decode
_decode_result: Callable[[bytes], LedgerResult] = msgspec.msgpack.Decoder(LedgerResult).decode
_decode_key_state: Callable[[bytes], KeyState] = msgspec.msgpack.Decoder(KeyState).decode
_decode_page = msgspec.msgpack.Decoder(Page).decode


def encode_begin(ledger: str, key: str, owner: str, lease_ms: int) -> bytes:
    """The command that lets an owner begin the work of a key."""
    return encode(Begin(ledger, key, owner, lease_ms))


def encode_renew(ledger: str, key: str, token: int, lease_ms: int) -> bytes:
    """The command that lets a lease run so long from then."""
    return encode(Renew(ledger, key, token, lease_ms))


def encode_commit(ledger: str, key: str, token: int, outcome: bytes, keep_ms: int = 0) -> bytes:
    """The command that commits an outcome; see `Commit`."""
    return encode(Commit(ledger, key, token, outcome, keep_ms))


def encode_abort(ledger: str, key: str, token: int) -> bytes:
    """The command that gives up a token."""
    return encode(Abort(ledger, key, token))


def encode_forget(ledger: str, key: str) -> bytes:
    """The command that forgets an outcome."""
    return encode(Forget(ledger, key))


def encode_look(ledger: str, key: str) -> bytes:
    """The query for what a key has come to."""
    return encode(Look(ledger, key))


def encode_await_outcome(ledger: str, key: str) -> bytes:
    """The query for what a key has come to, once it has no owner."""
    return encode(AwaitOutcome(ledger, key))


def encode_list_keys(
    ledger: str, prefix: str = "", start_after: str = "", count_max: int = PAGE_KEYS_MAX
) -> bytes:
    """The query for a page of keys; see `ListKeys`."""
    return encode(ListKeys(ledger, prefix, start_after, count_max))


def decode_result(data: bytes) -> LedgerResult:
    """Read the result of a command.

    Raises:
        msgspec.DecodeError: Not a result of this machine.
    """
    return _decode_result(data)


def decode_key_state(data: bytes) -> KeyState:
    """Read the answer to a look, or to waiting for an outcome.

    Raises:
        msgspec.DecodeError: Not such an answer of this machine.
    """
    return _decode_key_state(data)


def decode_page(data: bytes) -> Page:
    """Read a page of keys.

    Raises:
        msgspec.DecodeError: Not a page of this machine.
    """
    return _decode_page(data)
