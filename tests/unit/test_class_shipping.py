"""How classes get to members: all that they mention goes along, and nothing is shared."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from ray_paxos.class_shipping import is_local, types_of
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.replicated import Replicated, command
from ray_paxos.replicated_handle import Handle
from tests.unit.played_inventory import Inventory, Order, OutOfStock, Recording


@pytest.fixture
def local() -> Recording:
    return Recording()


@pytest.fixture
def stock(local: Recording) -> Inventory:
    return local.replicated(Inventory, "stock", {"bolt": 10})


HELPER = """
LIMIT = {"bolt": 5}
def doubled(n): return n * 2
def limit(item): return LIMIT[item]
"""
SHOP = """
from __future__ import annotations
import abc
import enum
from dataclasses import dataclass, field
from typing import Generic, TypeVar
import shop_helper
from shop_helper import doubled
from ray_paxos.replicated import Replicated, command, query

T = TypeVar("T")

class Size(enum.Enum):
    S = 1

@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    name: T
    size: Size = Size.S

class Base(Replicated, abc.ABC):
    @abc.abstractmethod
    def rate(self): ...
    @command
    def put(self, item: Item[str]) -> Item[str]:
        self.items.append(item)
        assert item.size is Size.S
        return self.items[doubled(0)]

@dataclass
class Shop(Base):
    items: list[Item[str]] = field(default_factory=list)
    def rate(self): return 1
    @command
    def put(self, item: Item[str]) -> Item[str]:
        return super().put(item)
    @query
    def limit(self, item: str) -> int:
        return shop_helper.limit(item) + self.rate() + self._static()
    @staticmethod
    def _static(): return doubled(1)
"""


def test_local_modules_travel_along(
    local: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members cannot import them: here they are gone before a member reads the log."""
    for name, source in (("shop_helper", HELPER), ("shop_main", SHOP)):
        (tmp_path / f"{name}.py").write_text(source)
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(tmp_path))
        shop_main = importlib.import_module("shop_main")
        commands = Recording()
        shop = commands.replicated(shop_main.Shop, "shop")
        assert shop.put(shop_main.Item("bolt")) == shop_main.Item("bolt")
        assert shop.limit("bolt") == 5 + 1 + 2
    for name in ("shop_helper", "shop_main"):
        monkeypatch.delitem(sys.modules, name)
    for each in commands.proposed:
        local.propose(each)
    assert local.machine.digest() == commands.machine.digest()
    assert shop_main.Shop is not type(local.machine._objects["shop"].instance)
    (there,) = local.machine._objects["shop"].instance.items
    assert type(there).__module__ == "shop_main"
    with pytest.raises(ImportError):
        importlib.import_module("shop_main")


class Annotated(Replicated):
    missing: list[OutOfStock]

    @command
    def put(self, order: Order | None) -> None: ...


def test_what_only_annotations_mention_travels_along() -> None:
    assert {"Order", "OutOfStock"} <= set(types_of(Annotated).by_name)


def test_two_classes_of_one_name_are_refused(local: Recording) -> None:
    class Mixed(Replicated):
        shipped_types = (Order, type("Order", (), {"__module__": "elsewhere"}))

        @command
        def run(self) -> None: ...

    with pytest.raises(ConfigurationError, match="mentions two classes Order"):
        local.replicated(Mixed, "mixed")


def test_an_argument_of_a_class_that_was_not_shipped_is_refused(stock: Inventory) -> None:
    class Unknown:
        pass

    anything: Any = stock
    with pytest.raises(ConfigurationError, match=r"Unknown of the module .*`shipped_types`"):
        anything.take(Unknown())


def test_shipping_leaves_cloudpickle_as_it_was(local: Recording) -> None:
    before = cloudpickle.list_registry_pickle_by_value()
    assert Inventory.__module__ not in before
    local.replicated(Inventory, "stock")
    assert cloudpickle.list_registry_pickle_by_value() == before
    with pytest.raises(ConfigurationError):
        local.replicated(type("Bad", (Inventory,), {"lock": threading.Lock()}), "bad")
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_what_is_local_is_what_members_may_lack() -> None:
    local = [name for name in ("__main__", __name__, "nowhere") if is_local(name)]
    assert local == ["__main__", __name__, "nowhere"]
    others = ("json", "ray_paxos.errors", "pytest", "msgspec", "builtins", "threading")
    assert not [name for name in others if is_local(name)]
    assert {"Inventory", "Order", "OutOfStock"} <= set(types_of(Inventory).by_name)


def test_the_callers_class_is_not_the_members(local: Recording) -> None:
    served: Any = local.replicated(Inventory, "stock")
    assert isinstance(served, Handle)
    assert type(local.machine._objects["stock"].instance) is not Inventory
    assert isinstance(local.machine, ObjectsMachine)
