"""What users hand to a space of keys, checked before anything is sent.

Each function raises `ConfigurationError`, which says what was found and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from ray_paxos.actors.client_arguments import NUMBER_MAX, no_bytes
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines import kv

_CONDITIONS = msgspec.msgpack.Decoder(kv.Condition)
_COMMANDS = msgspec.msgpack.Decoder(kv.KeyCommand)


def check_key(key: object, what: str = "key") -> None:
    """Refuse what is no key."""
    if not isinstance(key, str):
        raise ConfigurationError(f"{what}: found {type(key).__qualname__}; allowed: text")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{what}: found {key!r}; allowed: UTF-8 text") from error


def check_value(value: object) -> None:
    """Refuse what is no value."""
    if type(value) is not bytes:
        raise no_bytes("value", value)


def check_conditions(conditions: object) -> None:
    """Refuse what are no conditions of a txn."""
    _check_parts("conditions", conditions, _CONDITIONS, "HasVersion, HasValue")


def check_commands(what: str, commands: object) -> None:
    """Refuse what are no commands about one key each."""
    _check_parts(what, commands, _COMMANDS, "commands of one key")


def _check_parts(
    what: str, parts: object, decoder: msgspec.msgpack.Decoder[Any], allowed: str
) -> None:
    """That these are what the decoder reads, as members will."""
    if not isinstance(parts, Sequence) or isinstance(parts, str | bytes):
        raise ConfigurationError(f"{what}: found {type(parts).__qualname__}; allowed: a sequence")
    for position, part in enumerate(parts):
        why = ""
        try:
            is_one = decoder.decode(msgspec.msgpack.encode(part)) == part
        except (msgspec.MsgspecError, TypeError, UnicodeError, OverflowError) as error:
            is_one, why = False, f" ({error})"
        if not is_one:
            raise ConfigurationError(f"{what}[{position}]: found {part!r}{why}; allowed: {allowed}")
        if isinstance(part, kv.PutFor | kv.Renew):
            ttl_ms_of(part.ttl_ms / 1_000)


def check_version(expected_version: object) -> None:
    """Refuse what is no version."""
    if type(expected_version) is not int or not 0 <= expected_version <= NUMBER_MAX:
        raise ConfigurationError(
            f"expected_version: found {expected_version!r}; allowed: 0 or more"
        )


def ttl_ms_of(ttl_s: object) -> int:
    """A time to live in whole milliseconds, at least one; never less than was asked for."""
    if isinstance(ttl_s, int | float) and 0 < ttl_s <= kv.TTL_MS_MAX / 1_000:
        return math.ceil(ttl_s * 1_000)
    most = kv.TTL_MS_MAX // 1_000
    raise ConfigurationError(f"ttl_s: found {ttl_s!r}; allowed: seconds, above 0, up to {most:,}")
