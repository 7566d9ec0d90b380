"""A barrier: parties that pass it round after round, of which some leave for a while.

Rules:

1. Nobody passes a round before all of its parties have asked to be there.
2. A round that is passed had as many different parties as it is for, at places of their own.
3. A party that leaves is told whether it was there; where it was not, its round is passed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar

from ray_paxos.machines.barriers import (
    Arrived,
    BarriersMachine,
    Gathering,
    Left,
    decode_gathering,
    decode_passed,
    decode_result,
    encode_arrive,
    encode_leave,
    encode_look,
    encode_wait,
)
from ray_paxos.machines.base import StateMachine
from ray_paxos.testing.recipe_check import Recipe, Table
from ray_paxos.testing.recipe_client import Play, RecipeClient, Step

BARRIER = "epoch"


class Rounds(Recipe):
    """One barrier."""

    title: ClassVar[str] = "barriers"
    machine: ClassVar[str] = BarriersMachine.kind

    def __init__(self, table: Table) -> None:
        """Draw how many make a round."""
        super().__init__(table)
        self._parties = table.random.randint(2, 4)
        # Who has asked to be there, for which round, and has neither passed nor left it.
        self._asking: dict[str, int] = {}
        # By round, who was told to be there at which place; without those who left.
        self._there: dict[int, dict[str, int]] = {}
        self._passed = 0

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """The parties."""
        return [self._take_part] * self._parties

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """Rounds are passed by all of their parties, and nobody is left."""
        found = decode_gathering(machine.query(encode_look(BARRIER)))
        self.expect(
            found == Gathering(self._passed + 1, 0, {}),
            f"{self._passed} rounds were passed, and in the end it is {found}",
        )
        for number in range(1, self._passed + 1):
            places = sorted(self._there.get(number, {}).values())
            self.expect(
                places == list(range(self._parties)),
                f"round {number} of {self._parties} was passed by {self._there.get(number)}",
            )

    def _take_part(self, client: RecipeClient) -> Play:
        passed = 0
        while True:
            if not client.stopped:
                yield from client.rest(150)
            if client.stopped and not any(asked > passed for asked in self._asking.values()):
                # Nobody waits for it, and nobody will: whoever stops later finds it so, too.
                return
            names_round = client.random.random() < 0.5
            self._asking[client.name] = passed + 1
            command = encode_arrive(
                BARRIER, client.name, self._parties, passed + 1 if names_round else 0
            )
            outcome = yield from client.command(self.machine, command)
            result = decode_result(outcome.result or b"")
            assert isinstance(result, Arrived)
            number = result.round
            self.expect(number == passed + 1, f"{client.name}, after {passed}, is at {number}")
            self._there.setdefault(number, {})[client.name] = result.place
            if result.missing:
                is_passed = yield from self._wait(client, number, outcome.instance_id)
                if not is_passed:
                    continue
            self._pass(client, number)
            passed = number

    def _wait(self, client: RecipeClient, number: int, at_least: int) -> Generator[Step, Any, bool]:
        draw = client.random
        timeout_ms = draw.choice((50, 300)) if draw.random() < 0.2 else None
        request = encode_wait(BARRIER, number)
        answer = yield from client.wait(self.machine, request, at_least, timeout_ms)
        if answer is not None:
            told = decode_passed(answer.result).round
            self.expect(told == number, f"round {told} is passed, {number} was waited for")
            self.saw("waited")
            return True
        outcome = yield from client.command(
            self.machine, encode_leave(BARRIER, client.name, number)
        )
        result = decode_result(outcome.result or b"")
        assert isinstance(result, Left)
        if not result.was_waiting:
            self.saw("passed while it left")
            return True
        self.saw("left")
        del self._asking[client.name]
        del self._there[number][client.name]
        return False

    def _pass(self, client: RecipeClient, number: int) -> None:
        """A party is told that its round is passed."""
        if number > self._passed:
            # The first to hear of it: nobody can have asked for the next one yet.
            self.expect(
                number == self._passed + 1, f"round {number} is passed after {self._passed}"
            )
            asking = [name for name, asked in self._asking.items() if asked == number]
            self.expect(
                len(asking) == self._parties,
                f"round {number} is passed, and only {asking} have asked to be there",
            )
            self._passed = number
            self.saw("passed")
        del self._asking[client.name]
