"""Upgrades of replicated objects: class and state switch at once, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from ray_paxos.errors import CommandError
from ray_paxos.replicated import Replicated, command, query
from ray_paxos.replicated_handle import upgrade_replicated
from tests.unit.played_inventory import Inventory, Order, OutOfStock, Recording


@pytest.fixture
def local() -> Recording:
    return Recording()


@pytest.fixture
def stock(local: Recording) -> Inventory:
    return local.replicated(Inventory, "stock", {"bolt": 10})


class Stock(Replicated):
    version = 2

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._orders: list[Order] = []

    @command
    def put(self, item: str, n: int) -> int:
        self.counts[item] = self.counts.get(item, 0) + n
        return self.counts[item]

    @query
    def orders_of(self, item: str) -> list[Order]:
        return [each for each in self._orders if each == Order(item, each.count)]


def _migrate(state: dict[str, Any]) -> dict[str, Any]:
    return {"counts": state["_stock"], "_orders": state["_orders"]}


def _to_instance(state: dict[str, Any]) -> Stock:
    stock = Stock()
    stock.counts = {**state["_stock"], "new": 1}
    return stock


def test_an_upgrade_switches_class_and_state(stock: Inventory, local: Recording) -> None:
    stock.order(Order("bolt", 4))
    newer = stock.upgrade(Stock, migrate=_migrate)
    assert newer.put("bolt", 5) == 15
    assert newer.orders_of("bolt") == [Order("bolt", 4)], "of the new class's Order"
    assert newer.describe().class_name == "Stock"
    with pytest.raises(CommandError, match="take as a command: it is absent in Stock of version 2"):
        stock.take("bolt")
    with pytest.raises(CommandError, match="of version 2, not 1"):
        stock.upgrade(Stock, migrate=_migrate)
    assert local.replicated(Stock, "stock").put("bolt", 0) == 15
    assert len(local.machine._classes) == 1


def test_an_upgrade_may_make_the_instance_itself_or_keep_the_state(local: Recording) -> None:
    local.replicated(Inventory, "one", {"bolt": 1})
    newer = upgrade_replicated(local, Stock, "one", from_version=1, migrate=_to_instance)
    assert (newer.put("bolt", 1), newer.put("new", 1)) == (2, 2)

    class Longer(Inventory):
        version = 2

        @query
        def total(self) -> int:
            return sum(self._stock.values())

    two = local.replicated(Inventory, "two", {"bolt": 1, "nut": 2})
    assert two.upgrade(Longer).total() == 3


def test_a_migration_that_fails_changes_nothing(stock: Inventory, local: Recording) -> None:
    def spoils(state: dict[str, Any]) -> Any:
        state["_stock"].clear()
        raise OutOfStock("all", 1)

    before = local.machine.digest()
    with pytest.raises(OutOfStock):
        stock.upgrade(Stock, migrate=spoils)
    with pytest.raises(CommandError, match="migrate returned a int"):
        stock.upgrade(Stock, migrate=lambda state: 3)
    with pytest.raises(CommandError, match="no upgrade: raise `version`"):
        stock.upgrade(Inventory)
    assert local.machine.digest() == before
    assert len(local.machine._classes) == 1
    assert stock.take("bolt") == 9
