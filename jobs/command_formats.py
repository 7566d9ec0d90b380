"""What one line of input means: from its bytes to a command.

- `kv-jsonl`: one JSON object a line, `{"op": "put", "key": "a", "value": "1"}`. `put` takes key and
  value, `get` and `delete` a key, `cas` key, value and expected_version (a whole number, 0 for a
  key that was never written). Key and value are text. A field that the op does not take may be
  there as null only; other fields are refused. A field given twice counts as its last. Blank lines
  are passed over.
- `lines`: every line is one command, its bytes as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import TypeAlias

import msgspec

from ray_paxos.machines import kv

EncodeLine: TypeAlias = Callable[[bytes], "bytes | None"]
"""From a line, without its newline, to a command; None for a line to pass over."""


class BadLineError(Exception):
    """Why a line is no command."""


class _Put(msgspec.Struct, tag_field="op", tag="put", forbid_unknown_fields=True):
    key: str
    value: str
    expected_version: None = None


class _Get(msgspec.Struct, tag_field="op", tag="get", forbid_unknown_fields=True):
    key: str
    value: None = None
    expected_version: None = None


class _Delete(msgspec.Struct, tag_field="op", tag="delete", forbid_unknown_fields=True):
    key: str
    value: None = None
    expected_version: None = None


class _Cas(msgspec.Struct, tag_field="op", tag="cas", forbid_unknown_fields=True):
    key: str
    value: str
    expected_version: int


_decode_line = msgspec.json.Decoder(_Put | _Get | _Delete | _Cas).decode
_FIELDS = ("op", "key", "value", "expected_version")
_TAKES: dict[str, tuple[type, type, type]] = {
    "put": (str, str, NoneType),
    "get": (str, NoneType, NoneType),
    "delete": (str, NoneType, NoneType),
    "cas": (str, str, int),
}
_KIND_NAMES: dict[type, str] = {str: "text", NoneType: "none", int: "a whole number from 0"}
_VERSION_MAX = (1 << 63) - 1


def encode_kv_line(line: bytes) -> bytes | None:
    """The kv machine's command for one line of `kv-jsonl`; None for a blank line.

    Raises:
        BadLineError: The line is no command.
    """
    try:
        command = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not line.strip():
            return None
        raise BadLineError(_why(line) or str(error)) from error
    if isinstance(command, _Put):
        return kv.encode_put(command.key, command.value.encode())
    if isinstance(command, _Get):
        return kv.encode_get(command.key)
    if isinstance(command, _Delete):
        return kv.encode_delete(command.key)
    if not 0 <= command.expected_version <= _VERSION_MAX:
        raise BadLineError(
            f"expected_version: found {command.expected_version}; allowed: a whole number from 0"
        )
    return kv.encode_cas(command.key, command.value.encode(), command.expected_version)


def encode_plain_line(line: bytes) -> bytes | None:
    """The log machine's command for one line: its very bytes."""
    return line


FORMATS: dict[str, EncodeLine] = {"kv-jsonl": encode_kv_line, "lines": encode_plain_line}


def _why(line: bytes) -> str | None:
    """What is wrong with a line, in the words of the format; None where this does not find it."""
    try:
        # As text: releases of msgspec say of bytes that are none in different ways.
        found = msgspec.json.decode(line.decode())
    except RecursionError:
        return "not valid JSON: nested too deeply"
    except UnicodeDecodeError as error:
        return f"not UTF-8 text ({error.reason})"
    except msgspec.DecodeError as error:
        return f"not valid JSON: {str(error).removeprefix('JSON is malformed: ')}"
    if not isinstance(found, dict):
        return 'not a JSON object such as {"op": "put", "key": "a", "value": "1"}'
    op = found.get("op")
    if not isinstance(op, str) or op not in _TAKES:
        return f"op: found {_show(op)}; allowed: {', '.join(_TAKES)}"
    for field, kinds in zip(_FIELDS[1:], _TAKES[op], strict=True):
        value = found.get(field)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return f"{field}: found {_show(value)}; {op} takes {_KIND_NAMES[kinds]}"
    unknown = sorted(found.keys() - set(_FIELDS))
    return f"unknown field {unknown[0]!r}; allowed: {', '.join(_FIELDS)}" if unknown else None


def _show(value: object) -> str:
    """A JSON value in short; None for what is missing or null."""
    if value is None:
        return "nothing"
    shown = msgspec.json.encode(value).decode()
    return shown if len(shown) <= 60 else shown[:57] + "..."
