"""A counter that several add to, and ids that several take.

Rules:

1. Added up in the order of the log, what was acknowledged is what each was told, and what is left.
2. A linearizable read sees all that was acknowledged before it began, and nothing that nobody has
   asked for. To wait for a value ends with one that is at least that.
3. No id is given twice, and none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.counters import (
    Counted,
    CountersMachine,
    Taken,
    decode_result,
    decode_value,
    encode_add,
    encode_get,
    encode_reached,
    encode_take,
)
from ray_paxos.testing.recipe_check import Place, Recipe, Table
from ray_paxos.testing.recipe_client import Play, RecipeClient

COUNTER = "hits"
IDS = "ids"


class Numbers(Recipe):
    """One counter and one allocator."""

    title: ClassVar[str] = "counters"
    machine: ClassVar[str] = CountersMachine.kind

    def __init__(self, table: Table) -> None:
        """Nothing is counted."""
        super().__init__(table)
        # By place: what was added, and what the counter was then.
        self._added: dict[Place, tuple[int, int]] = {}
        self._called_sum = self._told_sum = 0
        self._taken: dict[int, int] = {}
        self._counting = table.random.randint(2, 3)
        # The highest value that is waited for.
        self._wanted = 0

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """Some who do all of it, and one who waits."""
        return [self._count] * self._counting + [self._await]

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """All adds are there once, and ids are without gaps."""
        total = 0
        for place in sorted(self._added):
            amount, told = self._added[place]
            total += amount
            self.expect(told == total, f"the counter was {total} at {place}, and {told} was told")
        left = decode_value(machine.query(encode_get(COUNTER)))
        self.expect(left == total, f"{total} were added, and the counter is at {left}")
        expected = 1
        for first in sorted(self._taken):
            self.expect(first == expected, f"ids from {expected} to {first - 1} are left out")
            expected = first + self._taken[first]
        last = decode_value(machine.query(encode_get(IDS)))
        self.expect(last == expected - 1, f"{expected - 1} ids were taken, and {last} are gone")

    def _count(self, client: RecipeClient) -> Play:
        while not client.stopped:
            yield from client.rest(60)
            kind = client.random.random()
            if kind < 0.5:
                yield from self._add(client, client.random.randint(1, 9))
            elif kind < 0.8:
                yield from self._take(client)
            else:
                yield from self._read(client)
        self._counting -= 1
        if not self._counting and self._wanted > self._told_sum:
            # Nobody else counts any more: let whoever waits come to an end.
            yield from self._add(client, self._wanted - self._told_sum)

    def _add(self, client: RecipeClient, amount: int) -> Play:
        self._called_sum += amount
        outcome = yield from client.command(self.machine, encode_add(COUNTER, amount))
        result = decode_result(outcome.result or b"")
        assert isinstance(result, Counted)
        self._told_sum += amount
        self._added[outcome.instance_id, outcome.index] = (amount, result.value)
        self.saw("added")

    def _take(self, client: RecipeClient) -> Play:
        count = client.random.randint(1, 5)
        outcome = yield from client.command(self.machine, encode_take(IDS, count))
        result = decode_result(outcome.result or b"")
        assert isinstance(result, Taken)
        for first, others in self._taken.items():
            self.expect(
                result.first + count <= first or first + others <= result.first,
                f"ids {result.first} to {result.first + count - 1} are given, of which another "
                f"has some: {first} to {first + others - 1}",
            )
        self._taken[result.first] = count
        self.saw("ids taken")

    def _read(self, client: RecipeClient) -> Play:
        least = self._told_sum
        answer = yield from client.read(self.machine, encode_get(COUNTER))
        if answer is None:
            return
        value = decode_value(answer.result)
        self.expect(
            least <= value <= self._called_sum,
            f"a linearizable read sees {value}, of {least} to {self._called_sum}",
        )
        self.saw("read")

    def _await(self, client: RecipeClient) -> Play:
        """Wait for values that will come: whoever counts last sees to it."""
        seen = 0
        while not client.stopped:
            wanted = seen + client.random.randint(1, 15)
            timeout_ms = client.random.choice((100, 1_000, None, None))
            self._wanted = max(wanted, self._wanted)
            request = encode_reached(COUNTER, wanted)
            answer = yield from client.wait(self.machine, request, 0, timeout_ms)
            if answer is None:
                continue
            value = decode_value(answer.result)
            self.expect(
                wanted <= value <= self._called_sum,
                f"{value} is no answer to waiting for {wanted}, with {self._called_sum} asked for",
            )
            self.saw("value awaited")
            seen = value
