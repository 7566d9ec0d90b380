"""Locks, semaphores, locks for readers and writers, and elections.

Rules:

1. By token: each grant has one, no two have the same, later ones have higher ones; a store that
   refuses tokens below the highest it has seen takes what the holder of a whole resource writes
   for as long as that can rely on its lease.
2. By time: together, those that can rely on their leases hold no more than there is. A lease that
   runs is not lost, and its release says that it was held.
3. Who looks on sees what holders were told: of an election, one leader for each epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.permits import (
    Granted,
    Lost,
    PermitsMachine,
    Released,
    Resource,
    Waiting,
    decode_resource,
    decode_result,
    encode_acquire,
    encode_await,
    encode_await_change,
    encode_look,
    encode_release,
    encode_renew,
)
from ray_paxos.testing.recipe_check import Beliefs, Recipe, Table, TokenOrder
from ray_paxos.testing.recipe_client import Play, RecipeClient, Step

TTLS_MS = (60, 200, 500, 1_500)
WAITS_MS = (0, 100, 1_000, 3_000)
HOLDS_MAX = 4
"""Steps of a holder with what it holds."""


class FencedStore:
    """A store that refuses tokens below the highest it has seen."""

    def __init__(self) -> None:
        """It has seen none."""
        self.highest = 0

    def write(self, token: int) -> bool:
        """Whether it takes a write."""
        if token < self.highest:
            return False
        self.highest = token
        return True


@dataclass
class _Grant:
    """What a holder was told of its lease.

    Attributes:
        holder: The name it has it by.
        units: How much.
        token: Its own.
        ttl_ms: How long a lease runs.
        until_ns: Until when it relies on it.
    """

    holder: str
    units: int
    token: int
    ttl_ms: int
    until_ns: int


class Permits(Recipe):
    """One resource, used by several."""

    title: ClassVar[str] = "permits"
    machine: ClassVar[str] = PermitsMachine.kind

    def __init__(self, table: Table) -> None:
        """Draw how much of it there is."""
        super().__init__(table)
        draw = table.random
        self._capacity = draw.choice((1, 1, 1, 2, 3))
        self._name = f"resource of {self._capacity}"
        self._ttls_ms = draw.sample(TTLS_MS, 2)
        self._tokens = TokenOrder(self.title)
        self._beliefs = Beliefs(self, self._capacity, self._name)
        self._store = FencedStore()
        self._asked = 0

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """Some who want it, and one who looks on."""
        return [self._use] * self.table.random.randint(2, 4) + [self._look_on]

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """No more is held than there is."""
        resource = decode_resource(machine.query(encode_look(self._name)))
        self._check_seen(resource)

    # Who uses it.

    def _use(self, client: RecipeClient) -> Play:
        while not client.stopped:
            yield from client.rest(60)
            grant = yield from self._acquire(client)
            if grant is not None:
                yield from self._hold(client, grant)

    def _acquire(self, client: RecipeClient) -> Generator[Step, Any, _Grant | None]:
        draw = client.random
        self._asked += 1
        # Each under a name of its own: so each grant is a new one.
        holder = f"{client.name}/{self._asked}"
        units = self._capacity if draw.random() < 0.5 else draw.randint(1, self._capacity)
        ttl_ms, wait_ms = draw.choice(self._ttls_ms), draw.choice(WAITS_MS)
        asked_ns = client.now_ns
        command = encode_acquire(
            self._name,
            holder,
            ttl_ms=ttl_ms,
            units=units,
            capacity=self._capacity,
            wait_ms=wait_ms,
        )
        outcome = yield from client.command(self.machine, command)
        assert outcome.result is not None
        result = decode_result(outcome.result)
        until_ns = asked_ns + self.table.trusted_ns(ttl_ms)
        if isinstance(result, Granted):
            self.saw("granted at once")
            self._tokens.given_at(outcome, result.token, holder)
            return self._begin(_Grant(holder, units, result.token, ttl_ms, until_ns))
        if not isinstance(result, Waiting):
            self.saw("busy")
            return None
        timeout_ms = wait_ms // 3 if draw.random() < 0.15 else None
        request = encode_await(self._name, holder)
        answer = yield from client.wait(self.machine, request, outcome.instance_id, timeout_ms)
        if answer is None:
            self.saw("wait given up")
            yield from client.command(self.machine, encode_release(self._name, holder))
            return None
        result = decode_result(answer.result)
        if not isinstance(result, Granted):
            self.saw("waited in vain")
            # Its wait is over, or it was granted meanwhile and that lease is.
            least_ns = self.table.trusted_ns(min(wait_ms, ttl_ms))
            self.expect(
                client.now_ns >= asked_ns + least_ns, f"{holder} has lost its place in line"
            )
            return None
        self.saw("granted in line")
        self._tokens.given(result.token, holder)
        self._tokens.given_after(outcome, result.token)
        return self._begin(_Grant(holder, units, result.token, ttl_ms, until_ns))

    def _begin(self, grant: _Grant) -> _Grant:
        self._beliefs.begin(grant.holder, grant.units, grant.until_ns)
        return grant

    def _hold(self, client: RecipeClient, grant: _Grant) -> Play:
        draw = client.random
        for _ in range(draw.randint(1, HOLDS_MAX)):
            self._write(grant)
            stands_still = draw.random() < 0.15
            if stands_still:
                # Past its lease, which somebody else may have by then.
                yield from client.pause(grant.ttl_ms * (1 + draw.random()))
                self._write(grant)
            else:
                yield from client.rest(max(grant.ttl_ms // 2, 1))
            if draw.random() < 0.5 and not (yield from self._renew(client, grant)):
                self._write(grant)
                return
        if draw.random() < 0.7:
            yield from self._release(client, grant)
        else:
            # Gone without a word: its lease ends by itself.
            self._beliefs.end(grant.holder)

    def _write(self, grant: _Grant) -> None:
        """Write to the store what is its holder's alone to write."""
        if grant.units < self._capacity:
            return
        is_taken = self._store.write(grant.token)
        self.saw("written" if is_taken else "write refused")
        self.expect(
            is_taken or not self._beliefs.holds(grant.holder),
            f"{grant.holder} holds all of it by token {grant.token}, and {self._store.highest} "
            "has written",
        )

    def _renew(self, client: RecipeClient, grant: _Grant) -> Generator[Step, Any, bool]:
        asked_ns = client.now_ns
        command = encode_renew(self._name, grant.holder, grant.token, grant.ttl_ms)
        outcome = yield from client.command(self.machine, command)
        assert outcome.result is not None
        result = decode_result(outcome.result)
        if isinstance(result, Lost):
            self.saw("lost")
            self.expect(
                not self._beliefs.holds(grant.holder),
                f"{grant.holder} has lost a lease of {grant.ttl_ms} ms before its time",
            )
            return False
        self.saw("renewed")
        self.expect(result == Granted(grant.token), f"{grant.holder} has renewed, and {result}")
        grant.until_ns = asked_ns + self.table.trusted_ns(grant.ttl_ms)
        self._beliefs.begin(grant.holder, grant.units, grant.until_ns)
        return True

    def _release(self, client: RecipeClient, grant: _Grant) -> Play:
        # From when it asks to be rid of it, it relies on nothing.
        self._beliefs.end(grant.holder)
        command = encode_release(self._name, grant.holder)
        outcome = yield from client.command(self.machine, command)
        assert outcome.result is not None
        result = decode_result(outcome.result)
        assert isinstance(result, Released)
        self.saw("released" if result.held else "released too late")
        self.expect(
            result.held or client.now_ns >= grant.until_ns,
            f"{grant.holder} has released what it held, and is told that it did not",
        )

    # Who looks on.

    def _look_on(self, client: RecipeClient) -> Play:
        known = applied = 0
        while not client.stopped:
            request = encode_await_change(self._name, known)
            answer = yield from client.wait(
                self.machine, request, applied, client.random.choice((200, 1_000))
            )
            if answer is None:
                continue
            resource = decode_resource(answer.result)
            self._check_seen(resource)
            tokens = [each.token for each in resource.holdings.values()]
            now_known = max(tokens, default=0)
            self.expect(now_known != known, f"no change after {known}, and an answer")
            if self._capacity == 1:
                self.expect(
                    not now_known or now_known > known, f"epoch {now_known} is seen after {known}"
                )
            self.saw("change seen")
            known, applied = now_known, answer.applied_through
            yield from client.rest(50)

    def _check_seen(self, resource: Resource) -> None:
        held = sum(each.units for each in resource.holdings.values())
        self.expect(held <= self._capacity, f"{held} units of {self._name} are held")
        for holder, holding in resource.holdings.items():
            self._tokens.given(holding.token, holder)
