"""Replicated objects as their users see them: handles, calls, errors, the context."""

from __future__ import annotations

import asyncio
import collections
import copy
import inspect
import pickle
import pydoc
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from ray_paxos.errors import CommandError, ConfigurationError, QueryError
from ray_paxos.replicated import LOG_EPOCH, CommandContext, Replicated, command, query
from ray_paxos.replicated_handle import NoSuchMethodError, object_names, open_replicated
from ray_paxos.testing.local_objects import LocalObjects
from tests.unit.played_inventory import Inventory, Order, OutOfStock, Private, Recording


@pytest.fixture
def local() -> Recording:
    return Recording()


@pytest.fixture
def stock(local: Recording) -> Inventory:
    return local.replicated(Inventory, "stock", {"bolt": 10})


# Calls.


def test_calls_run_on_members(stock: Inventory, local: Recording) -> None:
    assert stock.take("bolt", 3) == 7
    assert stock.take("bolt", n=2) == 5
    assert stock.take("bolt") == 4
    assert stock.count("bolt") == 4
    assert stock.count("nut") == 0
    assert object_names(local) == ["stock"]
    assert stock.describe().commands == 3
    assert stock.drop()
    assert not stock.drop()
    with pytest.raises(CommandError, match="there is no object 'stock'"):
        stock.take("bolt")
    with pytest.raises(QueryError, match="there is no object 'stock'"):
        stock.count("bolt")


def test_a_local_instance_is_a_plain_object() -> None:
    plain = Inventory({"bolt": 3})
    assert plain.take("bolt") == 2
    assert plain.count("bolt") == 2
    for use in (
        plain.drop,
        plain.describe,
        lambda: plain.upgrade(Inventory),
        lambda: plain.context,
    ):
        with pytest.raises(ConfigurationError):
            use()


def test_calls_need_not_be_waited_for(stock: Inventory) -> None:
    async def many() -> list[int]:
        return list(await asyncio.gather(*(stock.take.asynchronously("bolt") for _ in range(3))))

    assert asyncio.run(many()) == [9, 8, 7]
    assert stock.take.submit("bolt").result() == 6
    assert stock.count.submit("bolt").result() == 6
    with pytest.raises(OutOfStock):
        stock.take.submit("bolt", 100).result()
    with pytest.raises(TypeError, match="missing a required argument: 'item'"):
        stock.take.submit()  # type: ignore[call-arg]

    class Waiting:
        def __init__(self, local: LocalObjects) -> None:
            self.propose, self.query = local.propose, local.query

    waiting = open_replicated(Waiting(LocalObjects()), Inventory, "stock", {"bolt": 1})
    assert waiting.take("bolt") == 0
    with pytest.raises(ConfigurationError, match="this channel waits for each call"):
        waiting.take.submit("bolt")


def test_who_stops_waiting_for_an_answer_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Recording):
        def __init__(self) -> None:
            super().__init__()
            self.pending: list[Future[bytes | None]] = []

        def propose_async(self, command: bytes) -> Future[bytes | None]:
            self.pending.append(Future())
            return self.pending[-1]

    slow = Slow()
    stock = slow.replicated(Inventory, "stock", {"bolt": 1})
    asked = stock.take.submit("bolt")
    assert asked.cancel()
    slow.pending[0].set_result(b"")
    assert caplog.records == []


def test_a_handle_shows_what_it_has(stock: Inventory) -> None:
    assert repr(stock) == "<replicated Inventory 'stock', version 1>"
    assert {"take", "count", "order", "upgrade", "drop", "describe"} <= set(dir(stock))
    assert "plain" not in dir(stock)
    assert not [name for name in dir(stock) if name.startswith("_")]
    assert str(inspect.signature(stock.take)) == "(item: 'str', n: 'int' = 1) -> 'int'"
    shown = pydoc.plain(pydoc.render_doc(stock.take))
    assert "take(item: 'str', n: 'int' = 1)" in shown
    assert "Take some out." in shown
    assert stock.take is stock.take


@pytest.mark.parametrize(
    ("use", "error", "why"),
    [
        (lambda s: s.take(), TypeError, "missing a required argument: 'item'"),
        (lambda s: s.take("bolt", 1, 2), TypeError, "too many positional arguments"),
        (lambda s: s.take("bolt", m=1), TypeError, "unexpected keyword argument 'm'"),
        (lambda s: s.plain(), ConfigurationError, "plain has neither @command nor @query"),
        (lambda s: s.nothing, ConfigurationError, r"no such method \(it has: apply_to_all, count"),
        (lambda s: s.stock_of(), AttributeError, "no such method"),
        (lambda s: setattr(s, "x", 1), ConfigurationError, "cannot be set on a handle"),
        (lambda s: s.take(sys.stderr), ConfigurationError, "argument 1 cannot be sent .* holds a"),
        (lambda s: s.take("a", n=[threading.Lock()]), ConfigurationError, "n cannot be sent"),
        (lambda s: s.apply_to_all(threading.Lock().acquire), ConfigurationError, "cannot be"),
        (lambda s: pickle.dumps(s), ConfigurationError, "cannot be pickled"),
    ],
)
def test_what_is_wrong_is_said_here_and_nothing_is_submitted(
    stock: Inventory, local: Recording, use: Callable[[Any], Any], error: type[Exception], why: str
) -> None:
    local.proposed.clear()
    with pytest.raises(error, match=why):
        use(stock)
    assert local.proposed == []


def test_a_missing_attribute_is_one_for_python_too(stock: Inventory) -> None:
    assert not hasattr(stock, "nothing")
    assert not hasattr(stock, "__wrapped__")
    with pytest.raises(NoSuchMethodError):
        stock.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ConfigurationError, match="cannot be pickled"):
        copy.copy(stock)


def test_a_channel_may_say_how_a_handle_is_pickled(local: Recording) -> None:
    stock: Any = local.replicated(Inventory, "stock")
    vars(local)["reduced"] = lambda cls, name: (collections.Counter, ([cls.__name__, name],))
    assert pickle.loads(pickle.dumps(stock)) == {"Inventory": 1, "stock": 1}


def test_objects_of_users_classes_go_both_ways(stock: Inventory) -> None:
    assert stock.order(Order("bolt", 1)) == (True, Order("bolt", 1))
    assert stock.order(Order("bolt", 1)) == (False, Order("bolt", 1))


def test_a_second_driver_with_the_same_code_means_the_same_classes(
    local: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes of its own, made from the same text."""
    source = (
        "from dataclasses import dataclass\n"
        "from ray_paxos.replicated import Replicated, command\n"
        "@dataclass(frozen=True)\nclass Order:\n    item: str\n"
        "class Orders(Replicated):\n"
        "    def __init__(self): self.orders = []\n"
        "    @command\n    def order(self, order: Order):\n"
        "        self.orders.append(order)\n"
        "        return self.orders.count(order), isinstance(order, Order), self.orders[0]\n"
    )
    counts = []
    for driver in ("one", "two"):
        module = ModuleType(f"driver_{driver}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        names: dict[str, Any] = vars(module)
        exec(source, names)
        orders = local.replicated(names["Orders"], "orders")
        count, is_one, first = orders.order(names["Order"]("bolt"))
        assert is_one
        assert type(first) is names["Order"]
        counts.append(count)
    assert counts == [1, 2]


def test_functions_go_by_value(stock: Inventory) -> None:
    factor = 3
    stock.apply_to_all(lambda count: count * factor)
    assert stock.count("bolt") == 30


# Errors.


def test_what_a_command_raises_is_raised_here(stock: Inventory) -> None:
    with pytest.raises(OutOfStock) as caught:
        stock.take("bolt", 12)
    assert (caught.value.item, caught.value.missing) == ("bolt", 2)
    assert "Inventory.take of object 'stock' raised on its members" in str(caught.value.__cause__)
    assert stock.count("bolt") == -2, "what it changed before stays changed"
    with pytest.raises(KeyError, match="nut"):
        stock.take("nut")
    with pytest.raises(OutOfStock):
        stock.missing("bolt")
    with pytest.raises(CommandError, match="was executed; what it returned cannot be sent"):
        stock.unsendable()


def test_an_atomic_command_that_raises_is_undone(stock: Inventory) -> None:
    with pytest.raises(OutOfStock):
        stock.take_if_there("bolt", 12)
    assert stock.count("bolt") == 10
    assert stock.take_if_there("bolt", 4) == 6


def test_an_exception_that_is_not_known_here_is_a_command_error(local: Recording) -> None:
    private = local.replicated(Private, "private")
    with pytest.raises(CommandError, match=r"HiddenError: of <object object at 0x\.\.\.>"):
        private.fail()


# Opening.


def test_to_open_again_changes_nothing_and_sends_no_class(
    stock: Inventory, local: Recording
) -> None:
    stock.take("bolt")
    local.proposed.clear()
    again = local.replicated(Inventory, "stock", {"bolt": 99})
    assert again.count("bolt") == 9
    assert local.proposed == []

    class Needing(Inventory):
        def __init__(self, items: dict[str, int]) -> None:
            super().__init__(items)

    local.replicated(Needing, "needing", {"nut": 1})
    found: Any = local.replicated(Needing, "needing")  # type: ignore[call-arg]
    assert found.count("nut") == 1


def test_another_class_or_version_is_refused(stock: Inventory, local: Recording) -> None:
    newer = type("Inventory", (Inventory,), {"version": 2, "__qualname__": "Inventory"})
    with pytest.raises(CommandError, match="is a Inventory of version 1, not a Inventory of vers"):
        local.replicated(newer, "stock")
    with pytest.raises(CommandError, match=r"not a Private of version 1.*`upgrade`"):
        local.replicated(Private, "stock")


def test_a_constructor_that_raises_makes_nothing(local: Recording) -> None:
    class Raising(Replicated):
        def __init__(self, value: int) -> None:
            if value < 0:
                raise OutOfStock("x", value)

        @query
        def get(self) -> int:
            return 1

    with pytest.raises(OutOfStock):
        local.replicated(Raising, "x", -1)
    assert object_names(local) == []
    assert local.replicated(Raising, "x", 1).get() == 1


def test_many_names_are_listed_page_by_page(
    local: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_paxos.replicated_handle.PAGE_NAMES", 2)
    for name in "cadeb":
        local.replicated(Private, name)
    assert object_names(local) == list("abcde")


# The context.


class Contextual(Replicated):
    def __init__(self) -> None:
        self.made = self.context.now
        self.ids: list[uuid.UUID] = []

    @command
    def draw(self) -> tuple[int, int, float, uuid.UUID, uuid.UUID, timedelta]:
        context = self.context
        number, ids = context.random.random(), (context.uuid4(), context.uuid4())
        return (context.instance_id, context.now_ns, number, *ids, context.now - self.made)

    @query
    def ask(self) -> int:
        return self.context.instance_id


def test_the_context_is_the_same_on_all_members_and_differs_by_place() -> None:
    draws = []
    for _ in range(2):
        local = LocalObjects()
        local.now_ns = 1_000_000_000
        contextual, other = (local.replicated(Contextual, name) for name in "ab")
        local.now_ns += 5_000_000_000
        draws.append([contextual.draw(), contextual.draw(), other.draw()])
    assert draws[0] == draws[1]
    first, second, third = draws[0]
    assert (first[0], second[0], third[0]) == (3, 4, 5)
    assert first[1] == 6_000_000_000
    assert first[5] == timedelta(seconds=5)
    assert len({first[2], second[2], third[2]}) == 3
    assert len({*first[3:5], *second[3:5], *third[3:5]}) == 6
    assert first[3].version == 4
    assert LOG_EPOCH.tzinfo is not None
    places = [("a", 1, 0), ("b", 1, 0), ("a", 2, 0), ("a", 1, 1)]
    assert len({CommandContext(*place, 0).random.random() for place in places}) == 4


def test_there_is_no_context_outside_of_a_command(local: Recording) -> None:
    contextual = local.replicated(Contextual, "a")
    with pytest.raises(ConfigurationError, match="no command runs here"):
        contextual.ask()
    contextual.draw()
    with pytest.raises(ConfigurationError, match="no command runs here"):
        contextual.ask()


# Loading.


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys\nimport ray_paxos.replicated\n"
        "assert not {'ray', 'cloudpickle', 'pyarrow'} & set(sys.modules)\n"
        "import ray_paxos.replicated_handle, ray_paxos.machines.objects\n"
        "assert not {'ray', 'cloudpickle', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
