"""A class whose objects hold all kinds of data, and the commands that make and call them."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ray_paxos.class_shipping import ship, types_of
from ray_paxos.errors import CommandError
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.object_messages import Ask, Call, Create, encode
from ray_paxos.machines.object_values import Types, encode_value
from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.replicated import Replicated, command, query

NO_TYPES = Types({})
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(),
              st.binary()),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text(), inner),
        st.sets(st.one_of(st.integers(), st.text())),
        st.frozensets(st.one_of(st.integers(), st.text())),
    ),
    max_leaves=20,
)  # fmt: skip


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 1


class Rights(Flag):
    READ = 1
    WRITE = 2


Point = namedtuple("Point", "x y")


@dataclass(frozen=True)
class Order:
    item: str
    count: int
    tags: frozenset[str] = frozenset()


@dataclass
class Slotted:
    __slots__ = ("left", "right")
    left: int
    right: Any


class Names(set[str]):
    pass


class Shop(Replicated):
    shipped_types = (Color, Rank, Rights, Point, Slotted, Names)

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.by_item: dict[str, list[Order]] = {}
        self.words: list[str] = []
        self.seen: set[str] = set()

    @command
    def add(self, item: str, count: int) -> list[Order]:
        order = Order(item, count, frozenset(f"{item}-{n}" for n in range(count)))
        self.orders.append(order)
        self.by_item.setdefault(item, []).append(order)
        self.words += [item, "".join(item)]
        self.seen.add(item)
        return [order, self.orders[0]]

    @command
    def everything(self) -> object:
        return [self.orders, self.by_item, self.words, self.seen]

    @command
    def fail(self, how: str) -> None:
        self.words.append(how)
        if how == "recursion":
            return self.fail(how)
        errors: dict[str, BaseException] = {
            "value": ValueError("bad", 7),
            "address": ValueError(f"found {object()!r}", [repr(object())]),
            "data": ValueError(lambda: None),
            "set": ValueError(self.seen),
            "memory": MemoryError(),
            "exit": SystemExit(3),
            "refuse": CommandError("no"),
        }
        raise errors[how]

    @command
    def hold(self, thing: object) -> object:
        return thing

    @command
    def unsendable(self) -> object:
        self.words.append("done")
        return (each for each in "ab")

    @query
    def count(self) -> int:
        return len(self.orders)


@dataclass
class Loop:
    own: Any = None
    tags: list[str] = field(default_factory=list)


class Looped(Replicated):
    def __init__(self) -> None:
        self.loop = Loop()
        self.loop.own = self.loop
        self.number = 0

    @command
    def grow(self, by: int) -> int:
        self.number += by
        self.loop.tags.append("x")
        return self.number


def create(name: str = "shop", cls: type[Replicated] = Shop, *arguments: Any) -> bytes:
    types = types_of(cls)
    made = encode_value((arguments, {}), types)
    return encode(Create(name, cls.__qualname__, cls.version, ship(cls, types), made))


def call(method: str, *arguments: Any, name: str = "shop") -> bytes:
    return encode(Call(name, method, encode_value((arguments, {}), types_of(Shop))))


def ask(method: str, *arguments: Any, name: str = "shop") -> bytes:
    return encode(Ask(name, method, encode_value((arguments, {}), types_of(Shop))))


def apply(machine: ObjectsMachine, each: bytes, instance_id: int = 1) -> bytes:
    try:
        return machine.apply(each, ApplyContext(instance_id)) or b""
    except CommandError as error:
        return str(error).encode()


def reloaded(machine: ObjectsMachine, directory: Path) -> ObjectsMachine:
    directory.mkdir()
    machine.save(directory)
    loaded = ObjectsMachine()
    loaded.load(directory)
    return loaded
