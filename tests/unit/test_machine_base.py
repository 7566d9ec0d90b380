"""What a machine inherits: its digest and its files."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.canonical import canonical_bytes

ROOT = Path(__file__).parents[2]


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Item:
    name: str
    tags: set[str]


@dataclass(slots=True)
class Slotted:
    x: object


class Text(str):
    __slots__ = ()


class Stock(StateMachine):
    kind = "stock"

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.color = Color.RED

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        name = command.decode()
        self.items[name] = Item(name, set(name))
        return None

    def query(self, request: bytes) -> bytes:
        return b"%d" % len(self.items)


def test_the_default_files_bring_the_state_back(tmp_path: Path) -> None:
    stock = Stock()
    for name in (b"nail", b"hammer"):
        stock.apply(name, ApplyContext())
    stock.save(tmp_path)
    loaded = Stock()
    loaded.apply(b"saw", ApplyContext())
    loaded.left_over = "of another state"  # type: ignore[attr-defined]
    loaded.load(tmp_path)
    assert loaded.items == stock.items
    assert loaded.color is Color.RED
    assert loaded.digest() == stock.digest()
    assert len(stock.digest()) == 16


def test_the_default_digest_tells_states_apart_and_not_the_order_of_filling() -> None:
    one, two = Stock(), Stock()
    for name in (b"nail", b"hammer"):
        one.apply(name, ApplyContext())
    for name in (b"hammer", b"nail"):
        two.apply(name, ApplyContext())
    assert one.digest() == two.digest()
    two.items["nail"].tags.add("new")
    assert one.digest() != two.digest()


DIFFERENT: list[Callable[[], object]] = [
    lambda: None,
    lambda: True,
    lambda: 1,
    lambda: 1.0,
    lambda: 0.0,
    lambda: -0.0,
    lambda: "1",
    lambda: b"1",
    lambda: bytearray(b"1"),
    lambda: Text("1"),
    lambda: Text("2"),
    lambda: 10**5_000,
    lambda: 10**5_000 + 1,
    lambda: -1,
    lambda: "\ud800",
    list,
    tuple,
    dict,
    set,
    lambda: frozenset({"a", "b"}),
    lambda: {"a", "b"},
    lambda: ["a", "b"],
    lambda: [["a"], "b"],
    lambda: [["a", "b"]],
    lambda: {"a": "b"},
    lambda: {"a": ["b"]},
    lambda: {1: 2, "a": (3,)},
    lambda: deque([1, 2]),
    lambda: deque([1, 2], maxlen=5),
    lambda: OrderedDict(a=1, b=2),
    lambda: OrderedDict(b=2, a=1),
    lambda: defaultdict(list, a=[1]),
    lambda: Counter("aab"),
    lambda: Counter("abb"),
    lambda: Decimal("1.50"),
    lambda: Decimal("1.5"),
    lambda: Color.RED,
    lambda: Color.BLUE,
    lambda: Color,
    lambda: Item("a", {"x", "y"}),
    lambda: Item("a", {"x"}),
    lambda: Slotted(1),
    lambda: Slotted({"x", "y"}),
]


def test_different_states_have_different_bytes_and_equal_ones_the_same() -> None:
    encoded = [canonical_bytes(make()) for make in DIFFERENT]
    assert len(set(encoded)) == len(encoded)
    assert encoded == [canonical_bytes(make()) for make in DIFFERENT]
    assert canonical_bytes({"b": 1, "a": 2}) == canonical_bytes({"a": 2, "b": 1})


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_bytes_do_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    program = (
        "from tests.unit.test_machine_base import DIFFERENT, canonical_bytes\n"
        "import hashlib\n"
        "print(hashlib.sha256(canonical_bytes([make() for make in DIFFERENT])).hexdigest())"
    )

    def ask(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert ask(hash_seed) == ask("99")


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        lambda: lambda: 0,
        lambda: print,
        lambda: [].append,
        lambda: (i for i in range(3)),
        lambda: defaultdict(lambda: 0),
    ],
)
def test_what_is_not_data_has_no_default_digest(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"override StateMachine\.digest"):
        canonical_bytes([make()])
