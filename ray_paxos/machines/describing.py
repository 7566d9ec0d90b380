"""What a command of a built-in machine says, as a line for a person who reads a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ray_paxos.machines.barriers import BarrierCommand, BarriersMachine
from ray_paxos.machines.counters import CounterCommand, CountersMachine
from ray_paxos.machines.kv import (
    Cas,
    Condition,
    Delete,
    Get,
    HasVersion,
    KeyCommand,
    KvCommand,
    Put,
    PutFor,
    Record,
    Renew,
    Txn,
)
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.ledger_messages import LedgerCommand
from ray_paxos.machines.ledgers import LedgersMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.machines.object_messages import ObjectCommand
from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.machines.permits import Acquire, PermitCommand, PermitsMachine, Release
from ray_paxos.machines.permits import Renew as RenewPermit
from ray_paxos.machines.queue_messages import QueueCommand
from ray_paxos.machines.queues import QueuesMachine

TEXT_BYTES_MAX = 60
"""Longer keys, values and lines are shortened."""
TXN_MAX = 1_000
"""A longer line about a txn is shortened."""
FIELDS_MAX = 300
"""And one about another command."""
LISTED_MAX = 5
"""Of more of a kind it is said how many there are."""


def describe_command(kind: str | None, command: bytes) -> str:
    """A command in words.

    Args:
        kind: Of the machine it is for; None where that is not known.
        command: As submitted; may be anything.

    Returns:
        One line without control characters; for machines that are not known, length and digits.
    """
    describe = _MACHINES.get(kind or "", describe_bytes)
    return describe(command)


def describe_bytes(data: bytes) -> str:
    """Bytes of nobody knows what: how many, and the first of them in hexadecimal digits."""
    shown = data[: TEXT_BYTES_MAX // 2].hex()
    return f"{len(data)} bytes {shown}{'...' if len(data) > TEXT_BYTES_MAX // 2 else ''}".rstrip()


def describe_text(data: bytes) -> str:
    """Bytes as text in quotes where they are text, in hexadecimal digits where they are not."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return describe_bytes(data)
    if not text.isprintable():
        # The escapes of Python: a log must not move the cursor of the one who reads it.
        text = text.encode("unicode_escape").decode()
    return f'"{text[:TEXT_BYTES_MAX]}"' + ("..." if len(text) > TEXT_BYTES_MAX else "")


def _describe_kv(command: bytes) -> str:
    try:
        decoded = _decode_kv(command)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"no command of the machine: {describe_bytes(command)}"
    if isinstance(decoded, Record):
        return "record"
    if not isinstance(decoded, Txn):
        return _describe_key_command(decoded)
    shown = [f"if {', '.join(map(_describe_condition, decoded.conditions))}:"]
    shown += [f"{_describe_key_command(each)};" for each in decoded.then]
    shown += ["else:", *(f"{_describe_key_command(each)};" for each in decoded.otherwise)]
    line = f"txn {' '.join(shown)}"
    return line if len(line) <= TXN_MAX else f"{line[:TXN_MAX]}..."


def _describe_condition(condition: Condition) -> str:
    key = describe_text(condition.key.encode())
    if isinstance(condition, HasVersion):
        return f"version {key} = {condition.version}"
    return f"value {key} = {'none' if condition.value is None else describe_text(condition.value)}"


def _describe_key_command(decoded: KeyCommand) -> str:
    key = f"key={describe_text(decoded.key.encode())}"
    match decoded:
        case Put(value=value):
            return f"put {key} value={describe_text(value)}"
        case Get():
            return f"get {key}"
        case Delete():
            return f"delete {key}"
        case Cas(value=value, expected_version=version):
            return f"cas {key} value={describe_text(value)} expected_version={version}"
        case PutFor(value=value, ttl_ms=ttl_ms):
            return f"put_for {key} value={describe_text(value)} ttl_ms={ttl_ms}"
        case Renew(ttl_ms=ttl_ms, expected_version=version):
            return f"renew {key} ttl_ms={ttl_ms} expected_version={version}"


def _describe_permit(command: bytes) -> str:
    try:
        decoded = _decode_permit(command)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"no command of the machine: {describe_bytes(command)}"
    of = f"name={describe_text(decoded.name.encode())} holder="
    of += describe_text(decoded.holder.encode())
    match decoded:
        case Acquire(units=units, capacity=capacity, ttl_ms=ttl_ms, wait_ms=wait_ms):
            return f"acquire {of} units={units}/{capacity} ttl_ms={ttl_ms} wait_ms={wait_ms}"
        case RenewPermit(token=token, ttl_ms=ttl_ms):
            return f"renew {of} token={token} ttl_ms={ttl_ms}"
        case Release():
            return f"release {of}"


def _describe_by_fields(decode: Callable[[bytes], Any]) -> Callable[[bytes], str]:
    """Of a machine whose commands are structs with a tag: that, and each field with its name."""

    def describe(command: bytes) -> str:
        try:
            decoded = decode(command)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return f"no command of the machine: {describe_bytes(command)}"
        shown = [str(decoded.__struct_config__.tag)]
        for field in msgspec.structs.fields(decoded):
            shown.append(f"{field.name}={_describe_field(getattr(decoded, field.name))}")
        line = " ".join(shown)
        return line if len(line) <= FIELDS_MAX else f"{line[:FIELDS_MAX]}..."

    return describe


def _describe_field(value: object) -> str:
    match value:
        case str():
            return describe_text(value.encode("utf-8", "replace"))
        case bytes():
            return describe_text(value)
        case tuple() if len(value) > LISTED_MAX:
            return f"{len(value)} of them"
        case tuple():
            return f"[{', '.join(map(_describe_field, value))}]"
        case _:
            return str(value)


def _describe_line(command: bytes) -> str:
    return f"line {describe_text(command)}"


_decode_kv: Callable[[bytes], KvCommand] = msgspec.msgpack.Decoder(KvCommand).decode
_decode_permit: Callable[[bytes], PermitCommand] = msgspec.msgpack.Decoder(PermitCommand).decode
_decode_barrier: Callable[[bytes], Any] = msgspec.msgpack.Decoder(BarrierCommand).decode
_decode_counter: Callable[[bytes], Any] = msgspec.msgpack.Decoder(CounterCommand).decode
_decode_ledger: Callable[[bytes], Any] = msgspec.msgpack.Decoder(LedgerCommand).decode
_decode_object: Callable[[bytes], Any] = msgspec.msgpack.Decoder(ObjectCommand).decode
_decode_queue: Callable[[bytes], Any] = msgspec.msgpack.Decoder(QueueCommand).decode
_MACHINES: Mapping[str, Callable[[bytes], str]] = {
    KeyValueMachine.kind: _describe_kv,
    LogMachine.kind: _describe_line,
    PermitsMachine.kind: _describe_permit,
    BarriersMachine.kind: _describe_by_fields(_decode_barrier),
    CountersMachine.kind: _describe_by_fields(_decode_counter),
    LedgersMachine.kind: _describe_by_fields(_decode_ledger),
    ObjectsMachine.kind: _describe_by_fields(_decode_object),
    QueuesMachine.kind: _describe_by_fields(_decode_queue),
}
