"""A ledger: several owners at the same keys, of whom some stand still, give up, or are gone.

Rules:

1. A key has one outcome for ever, by the one owner and token that committed it. Whoever asks later
   is told that one; whoever commits and is told `Done` is told its own.
2. Grants have tokens: no two the same, later ones higher. None is given for a key behind the place
   at which it was done.
3. While an owner can rely on its lease nobody else is at the key, and its token is good.
4. To wait for the outcome ends with it, or with nobody being at the key.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar

from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.ledger_messages import (
    Aborted,
    Done,
    Lost,
    Running,
    Won,
    decode_key_state,
    decode_result,
    encode_abort,
    encode_await_outcome,
    encode_begin,
    encode_commit,
    encode_look,
    encode_renew,
)
from ray_paxos.machines.ledgers import LedgersMachine
from ray_paxos.testing.recipe_check import Beliefs, Place, Recipe, Table, TokenOrder
from ray_paxos.testing.recipe_client import Play, RecipeClient, Step
from ray_paxos.testing.reference import Outcome

LEDGER = "jobs"
LEASES_MS = (80, 250, 800)
OPEN_KEYS = 3
"""So many keys are worked at while none of them is done."""


class Jobs(Recipe):
    """One ledger."""

    title: ClassVar[str] = "ledgers"
    machine: ClassVar[str] = LedgersMachine.kind

    def __init__(self, table: Table) -> None:
        """Nothing is done."""
        super().__init__(table)
        self._leases_ms = table.random.sample(LEASES_MS, 2)
        self._tokens = TokenOrder(self.title)
        self._done: dict[str, Done] = {}
        # The earliest known place at which a key was done, the latest at which it was granted.
        self._done_at: dict[str, Place] = {}
        self._won_at: dict[str, Place] = {}
        self._committing: set[bytes] = set()
        self._beliefs: dict[str, Beliefs] = {}
        self._began = 0

    def plays(self) -> Sequence[Callable[[RecipeClient], Play]]:
        """Some workers."""
        return [self._work] * self.table.random.randint(2, 4)

    def finish(self, machine: StateMachine, log_time_ns: int) -> None:
        """Keys have the outcomes that owners were told."""
        for key, done in self._done.items():
            found = decode_key_state(machine.query(encode_look(LEDGER, key)))
            self.expect(found == done, f"{key} is {found} in the end; it was {done}")

    def _work(self, client: RecipeClient) -> Play:
        while not client.stopped:
            yield from client.rest(50)
            key = f"job-{len(self._done) + client.random.randrange(OPEN_KEYS)}"
            lease_ms = client.random.choice(self._leases_ms)
            self._began += 1
            owner = f"{client.name}/{self._began}"
            asked_ns = client.now_ns
            outcome = yield from client.command(
                self.machine, encode_begin(LEDGER, key, owner, lease_ms)
            )
            assert outcome.result is not None
            result = decode_result(outcome.result)
            if isinstance(result, Won):
                self._won(key, owner, result.token, outcome, asked_ns, lease_ms)
                yield from self._own(client, key, owner, result.token, lease_ms)
            elif isinstance(result, Done):
                self._is_done(key, result, outcome)
            else:
                assert isinstance(result, Running)
                yield from self._await(client, key, outcome)

    # One that owns a key.

    def _won(
        self, key: str, owner: str, token: int, outcome: Outcome, asked_ns: int, lease_ms: int
    ) -> None:
        self.saw("won")
        self._tokens.given_at(outcome, token, owner)
        place = (outcome.instance_id, outcome.index)
        self._won_at[key] = max(place, self._won_at.get(key, place))
        self._check_places(key)
        beliefs = self._beliefs.setdefault(key, Beliefs(self, 1, key))
        beliefs.begin(owner, 1, asked_ns + self.table.trusted_ns(lease_ms))

    def _own(self, client: RecipeClient, key: str, owner: str, token: int, lease_ms: int) -> Play:
        draw, beliefs = client.random, self._beliefs[key]
        if draw.random() < 0.25:
            # Past its lease, so that somebody else may be at it.
            yield from client.pause(lease_ms * (1 + draw.random()))
        else:
            yield from client.rest(max(lease_ms // 2, 1))
        if draw.random() < 0.3 and not (
            yield from self._renew(client, key, owner, token, lease_ms)
        ):
            return
        kind = draw.random()
        if kind < 0.15:
            beliefs.end(owner)
            aborted = yield from client.command(self.machine, encode_abort(LEDGER, key, token))
            assert isinstance(decode_result(aborted.result or b""), Aborted)
            self.saw("aborted")
        elif kind < 0.3:
            self.saw("owner gone")
            beliefs.end(owner)
        else:
            yield from self._commit(client, key, owner, token)

    def _renew(
        self, client: RecipeClient, key: str, owner: str, token: int, lease_ms: int
    ) -> Generator[Step, Any, bool]:
        asked_ns = client.now_ns
        command = encode_renew(LEDGER, key, token, lease_ms)
        outcome = yield from client.command(self.machine, command)
        result = decode_result(outcome.result or b"")
        if isinstance(result, Lost):
            self._check_lost(key, owner, "renewal")
            return False
        self.expect(isinstance(result, Won) and result.token == token, f"{owner} renews: {result}")
        self.saw("renewed")
        self._beliefs[key].begin(owner, 1, asked_ns + self.table.trusted_ns(lease_ms))
        return True

    def _commit(self, client: RecipeClient, key: str, owner: str, token: int) -> Play:
        mine = f"{key} by {owner}".encode()
        self._committing.add(mine)
        for _ in range(1 + (client.random.random() < 0.2)):
            outcome = yield from client.command(
                self.machine, encode_commit(LEDGER, key, token, mine)
            )
            result = decode_result(outcome.result or b"")
            if isinstance(result, Lost):
                self.saw("commit lost")
                self._check_lost(key, owner, "commit")
                if isinstance(result.now, Done):
                    self._is_done(key, result.now, outcome)
                return
            self.expect(isinstance(result, Done), f"{owner} commits: {result}")
            assert isinstance(result, Done)
            self.saw("committed")
            self.expect(
                (result.outcome, result.token) == (mine, token),
                f"{owner} commits {mine!r} by {token}, and it is done as {result}",
            )
            self._is_done(key, result, outcome)
        self._beliefs[key].end(owner)

    def _check_lost(self, key: str, owner: str, what: str) -> None:
        self.expect(
            not self._beliefs[key].holds(owner), f"a {what} of {owner} is lost before its time"
        )

    # Others.

    def _await(self, client: RecipeClient, key: str, outcome: Outcome) -> Play:
        timeout_ms = 100 if client.random.random() < 0.15 else None
        request = encode_await_outcome(LEDGER, key)
        answer = yield from client.wait(self.machine, request, outcome.instance_id, timeout_ms)
        if answer is None:
            self.saw("wait given up")
            return
        state = decode_key_state(answer.result)
        self.expect(not isinstance(state, Running), f"{key}: {state} is no outcome to wait for")
        if isinstance(state, Done):
            self.saw("outcome awaited")
            self._told(key, state)

    def _is_done(self, key: str, done: Done, outcome: Outcome) -> None:
        """A command was told so."""
        place = (outcome.instance_id, outcome.index)
        self._done_at[key] = min(place, self._done_at.get(key, place))
        self._told(key, done)
        self._check_places(key)

    def _told(self, key: str, done: Done) -> None:
        known = self._done.setdefault(key, done)
        self.expect(known == done, f"{key} is done as {known}, and as {done}")
        self.expect(done.outcome in self._committing, f"nobody has committed {done}")

    def _check_places(self, key: str) -> None:
        if key in self._done_at and key in self._won_at:
            self.expect(
                self._won_at[key] < self._done_at[key],
                f"{key} was done at {self._done_at[key]}, and granted at {self._won_at[key]}",
            )
