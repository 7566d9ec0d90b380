"""A replicated class as a user writes it, and the machine in this process that has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ray_paxos.replicated import Replicated, command, query
from ray_paxos.testing.local_objects import LocalObjects


@dataclass(frozen=True)
class Order:
    item: str
    count: int


class OutOfStock(Exception):
    def __init__(self, item: str, missing: int) -> None:
        super().__init__(item, missing)
        self.item = item
        self.missing = missing


class Inventory(Replicated):
    """What there is."""

    def __init__(self, items: dict[str, int] | None = None) -> None:
        self._stock = dict(items or {})
        self._orders: list[Order] = []

    @command
    def take(self, item: str, n: int = 1) -> int:
        """Take some out."""
        self._stock[item] -= n
        if self._stock[item] < 0:
            raise OutOfStock(item, -self._stock[item])
        return self._stock[item]

    @command(atomic=True)
    def take_if_there(self, item: str, n: int) -> int:
        return self.take(item, n)

    @command
    def order(self, order: Order) -> tuple[bool, Order]:
        is_new = order not in self._orders
        self._orders.append(order)
        return is_new and isinstance(order, Order), self._orders[0]

    @command
    def apply_to_all(self, function: Callable[[int], int]) -> None:
        self._stock = {item: function(count) for item, count in self._stock.items()}

    @command
    def unsendable(self) -> object:
        return (each for each in "ab")

    @query
    def count(self, item: str) -> int:
        return self._stock.get(item, 0)

    @query
    def missing(self, item: str) -> int:
        raise OutOfStock(item, 1)

    def plain(self) -> None: ...


class Recording(LocalObjects):
    """Notes what goes to the machine."""

    def __init__(self) -> None:
        super().__init__()
        self.proposed: list[bytes] = []

    def propose(self, command: bytes) -> bytes | None:
        self.proposed.append(command)
        return super().propose(command)


class Private(Replicated):
    @command
    def fail(self) -> None:
        class HiddenError(Exception):
            pass

        raise HiddenError(f"of {object()!r}")
