"""Clients that count and take ids, and parties that wait for each other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chaos_judge_counter import check_barrier, check_counter, check_ids
from chaos_recipe_clients import Crew, Judgement, RecipeClient, RecipeWork, WorkPlace
from chaos_recipe_records import Addition, CounterLook, IdsTaken, RecipeRecords, RoundPassed

if TYPE_CHECKING:
    from ray_paxos import Cluster
    from ray_paxos.recipes.barrier import Barrier
    from ray_paxos.recipes.counter import Counter, IdAllocator

COUNTERS = 2
BLOCK_SIZE = 10
AMOUNT_MAX = 5
READ_S = 30.0
BARRIER_S = (4.0, 12.0)
# What a client does, and how often in a hundred operations.
SHARES = {"add": 50, "get": 20, "take": 15, "next": 15}


class CounterWork(RecipeWork):
    """Counters, to which only what is above 0 is added, and an allocator of ids."""

    def __init__(self, place: WorkPlace, records: RecipeRecords) -> None:
        """As of `RecipeWork`."""
        super().__init__(place, records)
        self.additions: list[Addition] = []
        self.looks: list[CounterLook] = []
        self.ids: list[IdsTaken] = []

    def counters(self, cluster: Cluster) -> list[Counter]:
        """The counters, of one client."""
        names = [f"chaos-{self.place.run}-{number}" for number in range(COUNTERS)]
        return [cluster.counter(name, group=self.place.group) for name in names]

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One that does all of it."""
        ids = cluster.id_allocator(
            f"chaos-{self.place.run}", block_size=BLOCK_SIZE, group=self.place.group
        )
        return _Counting(crew, self, number, self.counters(cluster), ids)

    def finish(self, cluster: Cluster) -> None:
        """What the counters are at."""
        for counter in self.counters(cluster):
            asked_ns = time.monotonic_ns()
            value = counter.get(timeout_s=READ_S)
            self.looks.append(CounterLook(counter.name, value, asked_ns, time.monotonic_ns()))

    def judge(self, check_s: float) -> Judgement:
        """See `chaos_judge_counter`."""
        checks = {
            "counted_once": check_counter(self.additions, self.looks),
            "ids_once": check_ids(self.ids),
        }
        figures = {
            "additions": len(self.additions),
            "additions_unknown": sum(
                each.value is None and not each.is_refused for each in self.additions
            ),
            "reads": len(self.looks),
            "ids": sum(each.count for each in self.ids),
        }
        return Judgement(checks, len(self.additions) + len(self.looks) + len(self.ids), figures)


class _Counting(RecipeClient):
    def __init__(
        self,
        crew: Crew,
        work: CounterWork,
        number: int,
        counters: list[Counter],
        ids: IdAllocator,
    ) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._counters = counters
        self._ids = ids

    def step(self) -> None:
        kind = self.random.choices(list(SHARES), list(SHARES.values()))[0]
        counter = self.random.choice(self._counters)
        if kind == "add":
            self._add(counter)
        elif kind == "get":
            timeout_s = self.place.read_s
            get = self.call("get", lambda: counter.get(timeout_s=timeout_s), is_read=True)
            if get.is_ok:
                look = CounterLook(counter.name, get.value, get.asked_ns, get.told_ns)
                self._work.looks.append(look)
        elif kind == "take":
            self._take(self.random.randint(1, AMOUNT_MAX))
        else:
            self._next()

    def _add(self, counter: Counter) -> None:
        amount, timeout_s = self.random.randint(1, AMOUNT_MAX), self.place.command_s
        call = self.call("add", lambda: counter.add(amount, timeout_s=timeout_s))
        value = call.value if call.is_ok else None
        self._work.additions.append(
            Addition(counter.name, amount, value, call.asked_ns, call.told_ns, call.is_refused)
        )

    def _take(self, count: int) -> None:
        timeout_s = self.place.command_s
        call = self.call("take", lambda: self._ids.take(count, timeout_s=timeout_s))
        if call.is_ok:
            ids = call.value
            if len(ids) != count:
                self.fail(f"took {count} ids, and was given {ids}")
            self._work.ids.append(
                IdsTaken(self._ids.name, ids.start, len(ids), call.asked_ns, call.told_ns)
            )

    def _next(self) -> None:
        timeout_s = self.place.command_s
        call = self.call("next", lambda: self._ids.next(timeout_s=timeout_s))
        if call.is_ok:
            self._work.ids.append(
                IdsTaken(self._ids.name, call.value, 1, call.asked_ns, call.told_ns, True)
            )


class BarrierWork(RecipeWork):
    """One barrier, at which all clients wait for each other."""

    def __init__(self, place: WorkPlace, records: RecipeRecords) -> None:
        """As of `RecipeWork`."""
        super().__init__(place, records)
        self.passed: list[RoundPassed] = []

    def client(self, crew: Crew, number: int, cluster: Cluster) -> RecipeClient:
        """One party."""
        barrier = cluster.barrier(
            f"chaos-{self.place.run}", self.place.clients, group=self.place.group
        )
        return _Party(crew, self, number, barrier)

    def judge(self, check_s: float) -> Judgement:
        """See `chaos_judge_counter`."""
        rounds = {each.round for each in self.passed}
        figures = {"rounds": len(rounds), "passages": len(self.passed)}
        checks = {"rounds": check_barrier(self.passed, self.place.clients)}
        return Judgement(checks, len(self.passed), figures)


class _Party(RecipeClient):
    def __init__(self, crew: Crew, work: BarrierWork, number: int, barrier: Barrier) -> None:
        super().__init__(crew, work, number)
        self._work = work
        self._barrier = barrier

    def step(self) -> None:
        timeout_s = self.random.uniform(*BARRIER_S)
        call = self.call("wait", lambda: self._barrier.wait(timeout_s=timeout_s))
        if call.is_ok:
            passage = call.value
            self._work.passed.append(
                RoundPassed(self.name, passage.round, passage.place, call.asked_ns, call.told_ns)
            )
