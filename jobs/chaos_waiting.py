"""How a chaos run passes its time: it looks, tells how it goes, and does what is due."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from chaos_account import LOOK_INTERVAL_S, Account
from chaos_gaps import SECOND_NS

TICK_S = 0.05


class Waiting:
    """Waits, and meanwhile keeps the account of faults that are open."""

    def __init__(
        self,
        account: Account,
        *,
        sleep: Callable[[float], None],
        on_tick: Callable[[], None],
    ) -> None:
        """Nothing is due.

        Args:
            account: Of faults.
            sleep: Waits.
            on_tick: Called many times a second.
        """
        self._account = account
        self._sleep = sleep
        self._on_tick = on_tick
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def later(self, due_ns: int, action: Callable[[], None]) -> None:
        """Do something when it is time."""
        heapq.heappush(self._due, (due_ns, next(self._count), action))

    def do_now(self) -> None:
        """Do at once whatever is to be done later."""
        while self._due:
            heapq.heappop(self._due)[2]()

    def until(self, until_ns: int, *, is_blind: bool = False) -> None:
        """Wait until then.

        Args:
            until_ns: By the account's clock.
            is_blind: Whether nobody can be looked at, and nothing be done, meanwhile.
        """
        clock_ns = self._account.clock_ns
        while True:
            now_ns = clock_ns()
            self._on_tick()
            if not is_blind:
                while self._due and self._due[0][0] <= clock_ns():
                    heapq.heappop(self._due)[2]()
                if self._account.is_due:
                    self._account.look()
                now_ns = clock_ns()
            if now_ns >= until_ns:
                return
            self._sleep(min(TICK_S, (until_ns - now_ns) / SECOND_NS))

    def a_moment(self, until_ns: int) -> None:
        """Wait until the next look, but not past a time."""
        self.until(min(self._account.clock_ns() + int(LOOK_INTERVAL_S * SECOND_NS), until_ns))

    def until_quiet(self, until_ns: int) -> None:
        """Wait until all serve and no fault is open, but not past a time."""
        self._account.look()
        while not self._account.is_quiet and self._account.clock_ns() < until_ns:
            self.a_moment(until_ns)
            self._account.look()

    def until_whole(self, until_ns: int) -> None:
        """Wait until all serve, whatever is open, but not past a time."""
        self._account.look()
        while not self._account.is_whole and self._account.clock_ns() < until_ns:
            self.a_moment(until_ns)
            self._account.look()
