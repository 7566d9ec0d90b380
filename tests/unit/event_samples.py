"""One of each event, with every field filled."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterable
from typing import Any

import msgspec

from ray_paxos.core.events import CommandsAnswered, Event
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.intake import Request
from ray_paxos.core.values import Entry, SessionOpen
from tests.unit.core_helpers import CONFIGURATION, GROUP, MS, ballot, client, commands

KINDS: tuple[type[Any], ...] = typing.get_args(Event)


def sample(kind: type[Any], group: int = GROUP) -> Any:
    """An event of a kind, in a group where it has one."""
    if kind is CommandsAnswered:
        return answered(requests=(request(),), group=group)
    hints = typing.get_type_hints(kind)
    values = {
        field.name: _value(field.name, hints[field.name]) for field in msgspec.structs.fields(kind)
    }
    if "group" in values:
        values["group"] = group
    return kind(**values)


def _value(name: str, hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    if hint is Configuration:
        return CONFIGURATION
    if hint is int:
        return 3
    if hint is str:
        return f"some {name}"
    if hint is bytes:
        return bytes(range(32))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return next(iter(hint))
    assert typing.get_origin(hint) is None, f"no sample of {name}: {hint}"
    return ballot(1)


def samples(group: int = GROUP) -> Iterable[Any]:
    """One event of each kind."""
    return [sample(kind, group) for kind in KINDS]


def request(*, arrived_ms: float = 0, count: int = 1, machine: str = "log") -> Request:
    """A client's request of some commands; of none, it opens a session."""
    entries: tuple[Entry, ...] = (SessionOpen("one"),)
    if count:
        batch = commands("x", count=count)
        entries = (msgspec.structs.replace(batch, machine=machine),)
    return Request(client(), 1, entries, 10, None, round(arrived_ms * MS))


def answered(
    *,
    requests: tuple[Request, ...],
    group: int = GROUP,
    instance_id: int = 9,
    byte_count: int = 100,
    opened_ms: float = 0,
    votes_ms: tuple[tuple[int, float], ...] = (),
    chosen_ms: float = 0,
    answered_ms: float = 0,
) -> CommandsAnswered:
    """An instance whose clients are answered; times on the proposer's clock."""
    return CommandsAnswered(
        group=group,
        instance_id=instance_id,
        requests=requests,
        byte_count=byte_count,
        opened_ns=round(opened_ms * MS),
        votes=tuple((member, round(at_ms * MS)) for member, at_ms in votes_ms),
        chosen_ns=round(chosen_ms * MS),
        answered_ns=round(answered_ms * MS),
    )
