"""Barriers: parties that wait for each other, round after round.

```python
barrier = cluster.barrier("epoch", parties=8)
for epoch in range(100):
    train(epoch)
    passage = barrier.wait(timeout_s=600)  # until all eight are there
    if passage.place == 0:                 # one of them does what is to be done once
        save(epoch)
```

What is promised (`machines.barriers` has the rules):

- A wait returns only once as many different parties as the barrier is for have come to its round.
  Rounds are numbers, from 1 without gaps; one that is passed stays so.
- Of the parties of a round no two have the same place; places are 0 to parties - 1.
- Whoever gives up, is interrupted or cancelled is there no more; unless the round was passed before
  that was known, which counts. A process that dies without a word stays there, until it comes back
  by its name or somebody calls `leave` for it: there is no lease.
- A task that is tried again names its party and its round, from 1: `wait(party="a", round=3)`. If
  the round was passed meanwhile it is told so at once, and never counts for a later one.
"""

from __future__ import annotations

import secrets
from typing import Any, ClassVar, NamedTuple

from ray_paxos.errors import CommandError, NotYetError, WaitTimeoutError
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines import barriers
from ray_paxos.machines.barriers import (
    PARTIES_MAX,
    PARTY_LENGTH_MAX,
    Arrived,
    Gathering,
    Left,
    Passed,
)
from ray_paxos.recipes.leases import boot_time_s
from ray_paxos.recipes.permit_recipe import own_label
from ray_paxos.recipes.recipe import (
    TIMEOUT_S,
    Ask,
    Propose,
    Recipe,
    Send,
    Steps,
    WaitFor,
    check_label,
    check_number,
    deadline_of_wait,
    value_of,
)

ROUND_MAX = (1 << 63) - 1
_LABEL_LENGTH_MAX = 80
"""Of a made party's name; what is random comes behind."""


class Passage(NamedTuple):
    """A round that is passed.

    Attributes:
        round: Its number, from 1.
        place: The party's own, from 0; None where the round was passed before it asked.
    """

    round: int
    place: int | None


class Barrier(Recipe):
    """Made by `Cluster.barrier`.

    Attributes:
        parties: So many make a round: the same for all who use it at one time.
    """

    machine: ClassVar[str] = "barriers"

    def __init__(self, name: str, group: int, clients: GroupClients, *, parties: int) -> None:
        """Made by a cluster; sends nothing.

        Args:
            name: Its name.
            group: Which group has it.
            clients: Of the cluster's groups.
            parties: So many make a round.

        Raises:
            ConfigurationError: An argument means nothing.
        """
        super().__init__(name, group, clients)
        check_number("parties", parties, 1, PARTIES_MAX)
        self.parties = parties
        # All below it are passed, as far as is known here; 0 for not known.
        self._likely_round = 0

    def _options(self) -> dict[str, Any]:
        return {"parties": self.parties}

    def wait(
        self, *, party: str = "", round: int | None = None, timeout_s: float | None = None
    ) -> Passage:
        """Come to a round, and wait until all of its parties are there.

        Args:
            party: As whom; by default a name that nobody else has.
            round: At this one or not at all, from 1; by default whichever they gather for.
            timeout_s: How long to wait; None for ever.

        Returns:
            The round that is passed, and the party's place in it.

        Raises:
            WaitTimeoutError: They did not all come in time; this party is there no more.
            CommandError: Those who are there wait for another number of parties, or the round is
                not the next one yet; or there is no room.
            RequestError: As `Client.propose`; the party leaves as soon as the group hears of it.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._wait(party, round, timeout_s))

    async def wait_async(
        self, *, party: str = "", round: int | None = None, timeout_s: float | None = None
    ) -> Passage:
        """As `wait`, in a coroutine; cancelled, the party is there no more."""
        return await self._run_async(self._wait(party, round, timeout_s))

    def _wait(self, party: str, round: int | None, timeout_s: float | None) -> Steps[Passage]:
        deadline_s = deadline_of_wait(timeout_s)
        check_label("party", party, PARTY_LENGTH_MAX)
        if round is not None:
            check_number("round", round, 1, ROUND_MAX)
        party = party or f"{own_label()[:_LABEL_LENGTH_MAX]}/{secrets.token_hex(8)}"
        while True:
            # Always a round by its number: whatever becomes of the arrival, it can be undone.
            this_round = round or self._likely_round or (yield from self._look(TIMEOUT_S)).round
            passage = yield from self._come(party, this_round, deadline_s)
            self._likely_round = max(self._likely_round, this_round + 1)
            if passage.place is not None or round is not None:
                return passage
            # They have gone on without this party: it comes to where they are.
            self._likely_round = 0

    def _come(self, party: str, round: int, deadline_s: float) -> Steps[Passage]:
        """Come to a round, and wait for it; whatever happens, the party is there no more."""
        leave = barriers.encode_leave(self.name, party, round)
        is_over = False
        try:
            command = barriers.encode_arrive(self.name, party, self.parties, round)
            asked = yield Propose(command)
            answer = barriers.decode_result(value_of(asked))
            if isinstance(answer, Passed):
                is_over = True
                return Passage(round, None)
            assert isinstance(answer, Arrived), "the result of an arrival"
            if answer.missing and not (
                yield from self._is_passed(leave, round, asked.instance_id, deadline_s)
            ):
                is_over = True
                raise WaitTimeoutError(
                    f"{self!r}: of round {round} {answer.missing} were missing, and not all came "
                    "in time; this party is there no more"
                )
            is_over = True
            return Passage(round, answer.place)
        except CommandError:
            # It did not come, and one of its name that may be there is another.
            is_over = True
            raise
        finally:
            if not is_over:
                yield Send(leave)

    def _is_passed(self, leave: bytes, round: int, at_least: int, deadline_s: float) -> Steps[bool]:
        """Wait for a round; where it is not passed in time, the party has left."""
        request = barriers.encode_wait(self.name, round)
        try:
            yield WaitFor(request, at_least, max(deadline_s - boot_time_s(), 0.0))
        except NotYetError:
            left = barriers.decode_result(value_of((yield Propose(leave))))
            if isinstance(left, Left) and left.was_waiting:
                return False
        else:
            return True
        # Passed in this very moment, or somebody has left in its name.
        try:
            yield Ask(request)
        except NotYetError:
            return False
        return True

    def leave(self, party: str, round: int, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Let a party be there no more, such as one whose process died.

        Args:
            party: Which; `look` names those who are there.
            round: Only from this one, which `look` names, too.
            timeout_s: How long to wait.

        Returns:
            Whether it was there; not where the round is passed.

        Raises:
            RequestError: As `Client.propose`.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._leave(party, round, timeout_s))

    async def leave_async(self, party: str, round: int, *, timeout_s: float = TIMEOUT_S) -> bool:
        """As `leave`, in a coroutine."""
        return await self._run_async(self._leave(party, round, timeout_s))

    def _leave(self, party: str, round: int, timeout_s: float) -> Steps[bool]:
        check_label("party", party, PARTY_LENGTH_MAX)
        check_number("round", round, 1, ROUND_MAX)
        answer = yield Propose(barriers.encode_leave(self.name, party, round), timeout_s)
        left = barriers.decode_result(value_of(answer))
        return isinstance(left, Left) and left.was_waiting

    def look(self, *, timeout_s: float = TIMEOUT_S) -> Gathering:
        """For which round they gather, who is there and how many make it, as of now.

        Args:
            timeout_s: How long to try.

        Raises:
            QueryError: As `Client.query`.
        """
        return self._run(self._look(timeout_s))

    async def look_async(self, *, timeout_s: float = TIMEOUT_S) -> Gathering:
        """As `look`, in a coroutine."""
        return await self._run_async(self._look(timeout_s))

    def _look(self, timeout_s: float) -> Steps[Gathering]:
        answer = yield Ask(barriers.encode_look(self.name), timeout_s)
        return barriers.decode_gathering(value_of(answer))
