"""Reads of one client: whom to ask, and what to do with what is not an answer.

```
 linearizable   the master's learner, under the master's lease      one call
                else acceptors, a majority, for the index, and      calls at once,
                the master's learner for the answer                 each one deep
                else the master's proposer for the index, and its   two calls at once;
                learner for the answer                              the first is two deep
 lease          the master's learner, or not at all
 follower       any learner that is fresh enough
 stale          any learner
```

A read changes nothing, so it is simply asked again, of another member, until its time is over.
"""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass

from ray_paxos.actors.quorum_reader import QuorumReader, QuorumReadTurn
from ray_paxos.actors.read_calls import ReadCalls, Started
from ray_paxos.actors.roster import Roster
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryProblem,
    QueryResult,
    ReadIndex,
    ReadIndexConfirmed,
)
from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.messages import Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.read_problems import ReadProblem, following, late, more_telling, problem_of
from ray_paxos.errors import ConfigurationError, QueryError

CONSISTENCIES = {
    "linearizable": Consistency.LINEARIZABLE,
    "lease": Consistency.LEASE,
    "follower": Consistency.FOLLOWER,
    "stale": Consistency.STALE,
}
TRY_NS = 2_000_000_000
PAUSE_S = 0.005
PAUSE_MAX_S = 0.1


@dataclass(frozen=True, slots=True)
class _Read:
    """What a caller wants.

    Attributes:
        request: For the machine.
        machine: Its name in the group.
        consistency: How fresh the answer has to be.
        at_least: The instance that it has to hold.
        max_staleness_ms: How old it may be; None for any age.
    """

    request: bytes
    machine: str
    consistency: Consistency
    at_least: int
    max_staleness_ms: int | None


@dataclass(frozen=True, slots=True)
class _Limit:
    """How long the calls of one try are waited for.

    Attributes:
        deadline: Until then, on the monotonic clock, in seconds,
        call_s: and each of them for so long at most.
    """

    deadline: float
    call_s: float

    @property
    def left_s(self) -> float:
        """How long a call that is made now may take."""
        return min(max(self.deadline - time.monotonic(), 0.0), self.call_s)


class Reader:
    """Reads from one group. May be used by several threads: a race costs one more try.

    Attributes:
        read_calls: How it makes its calls, for others that read for the same client.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        patience: Patience,
        group: int,
        has_lease: bool,
        turn: QuorumReadTurn,
        is_fused: bool = False,
    ) -> None:
        """Read from the members of a cluster.

        Args:
            roster: Knows them.
            patience: Of the client.
            group: Whose machines.
            has_lease: Whether its masters hold leases.
            turn: Shared with other readers of the group.
            is_fused: Whether the roles of a member are one actor.
        """
        self._names = roster.names
        self._has_lease = has_lease
        self._patience = patience
        self._random = random.Random()
        # Of a read that found nobody, for the next one to go on with.
        self._search = MasterSearch()
        # Its own address: the numbers of its reads and of the session's requests are not the same.
        self._calls = ReadCalls(
            roster=roster,
            group=group,
            client_id=self._random.getrandbits(62) | 1,
            is_fused=is_fused,
        )
        self.read_calls = self._calls
        self._by_quorum = QuorumReader(self._calls, self._names, turn)
        self._request_ids = itertools.count(1)
        self._master = self._random.choice(self._ids)
        self._follower = self._random.choice(self._ids)

    @property
    def _ids(self) -> list[int]:
        return sorted(self._names)

    def read(
        self,
        request: bytes,
        machine: str,
        consistency: Consistency,
        *,
        at_least: int,
        max_staleness_ms: int | None,
        timeout_s: float,
    ) -> bytes:
        """Ask until a member answers.

        Args:
            request: For the machine.
            machine: Its name in the group.
            consistency: How fresh the answer has to be.
            at_least: The instance that it has to hold.
            max_staleness_ms: How old it may be; None for any age.
            timeout_s: How long to try.

        Returns:
            The machine's answer.

        Raises:
            QueryError: The machine refused, or nobody answered in time.
            StaleReadError: No member was fresh enough in time.
            LeaseError: No master held a lease in time.
        """
        read = _Read(request, machine, consistency, at_least, max_staleness_ms)
        deadline = time.monotonic() + timeout_s
        is_of_master = consistency >= Consistency.LEASE
        member = self._master if is_of_master else self._follower
        stopped: set[int] = set()
        tries, pause_s = 0, PAUSE_S
        search, self._search = self._search, MasterSearch()
        told: ReadProblem | None = None
        while True:
            limit = _Limit(deadline, self._patience.limit_ns(member, TRY_NS) / 1e9)
            is_cut_short = limit.left_s < limit.call_s
            outcome = self._try(member, read, limit)
            if isinstance(outcome, bytes):
                self._patience.answered(member)
                self._begin_with(member, is_of_master)
                return outcome
            told = more_telling(told, outcome, is_cut_short=is_cut_short)
            if outcome.problem is QueryProblem.STOPPED:
                stopped.add(member)
                if len(stopped) == len(self._ids):
                    raise QueryError(f"every member has stopped applying; {outcome.text}")
            if self._calls.lacks_members(outcome):
                self._calls.look_for_members(deadline - time.monotonic())
            # Others of this process may have met somebody, too: then nobody has to be looked for.
            self._patience.meet(self._ids)
            next_member = following(member, outcome, self._patience, self._random, search)
            tries += 1
            if not is_of_master or next_member != outcome.master or tries > len(self._ids):
                # Also where members name each other: neither leads yet.
                time.sleep(min(pause_s, max(deadline - time.monotonic(), 0.0)))
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
            if time.monotonic() >= deadline:
                # Where every read has less time than it takes, none would come any further.
                self._begin_with(next_member, is_of_master)
                self._search = search
                raise late(told, f"within {timeout_s:g} s")
            member = next_member

    def _begin_with(self, member: int, is_of_master: bool) -> None:
        """Ask this member first, the next time."""
        if is_of_master:
            self._master = member
        else:
            self._follower = member

    def _try(self, member: int, read: _Read, limit: _Limit) -> bytes | ReadProblem:
        """One try at one member: its answer, or why there is none."""
        if read.consistency is not Consistency.LINEARIZABLE or self._has_lease:
            query = self._query(read, read.consistency, read.at_least, limit)
            outcome = self._judge(member, self._call_learner(member, query, limit))
            if isinstance(outcome, QueryResult):
                return outcome.result
            is_other = outcome.master not in (0, member)
            if (
                read.consistency is not Consistency.LINEARIZABLE
                or outcome.problem is not QueryProblem.NO_LEASE
                or is_other
            ):
                return outcome
        query = self._query(read, Consistency.STALE, read.at_least, limit)
        answer = self._by_quorum.read(member, query, limit.deadline)
        return answer.result if answer is not None else self._try_by_index(member, read, limit)

    def _try_by_index(self, member: int, read: _Read, limit: _Limit) -> bytes | ReadProblem:
        """Ask the proposer for the index, and its learner for an answer that may do already."""
        query = self._query(read, Consistency.STALE, read.at_least, limit)
        index, left_s = ReadIndex(next(self._request_ids)), limit.left_s
        asked = self._calls.start(RoleName.PROPOSER, index, member, within_s=left_s)
        asked += self._calls.start(RoleName.LEARNER, query, member, within_s=limit.left_s)
        confirmed, early = self._finish(asked, limit)
        if not isinstance(confirmed, ReadIndexConfirmed):
            return problem_of(self._names[member], confirmed)
        # A refusal, too, counts only where the state is fresh enough.
        if not (
            isinstance(early, QueryResult | QueryFailed)
            and early.applied_through >= confirmed.index
        ):
            at_least = max(read.at_least, confirmed.index)
            query = self._query(read, Consistency.STALE, at_least, limit)
            early = self._call_learner(member, query, limit)
        outcome = self._judge(member, early)
        if not isinstance(outcome, QueryResult):
            return outcome
        if outcome.learned is not None and outcome.learned > confirmed.ballot:
            name = self._names[member]
            return ReadProblem(f"member {name} was deposed meanwhile", QueryProblem.NOT_MASTER)
        return outcome.result

    def _query(self, read: _Read, consistency: Consistency, at_least: int, limit: _Limit) -> Query:
        return Query(
            next(self._request_ids),
            read.machine,
            read.request,
            at_least,
            consistency,
            read.max_staleness_ms,
            # What this client does not wait for any more need not be executed.
            max(1, int(limit.left_s * 1_000)),
        )

    def _call_learner(self, member: int, query: Query, limit: _Limit) -> Message | ReadProblem:
        asked = self._calls.start(RoleName.LEARNER, query, member, within_s=limit.left_s)
        (answer,) = self._finish(asked, limit)
        return answer

    def _finish(self, started: list[Started], limit: _Limit) -> list[Message | ReadProblem]:
        found = self._calls.finish(started, limit.left_s)
        return [one if isinstance(one, ReadProblem) else one.message for one in found]

    def _judge(self, member: int, answer: Message | ReadProblem) -> QueryResult | ReadProblem:
        if isinstance(answer, QueryResult):
            return answer
        if isinstance(answer, QueryFailed) and answer.problem is QueryProblem.REFUSED:
            raise QueryError(answer.message)
        return problem_of(self._names[member], answer)


def consistency_of(name: str) -> Consistency:
    """The consistency of that name.

    Raises:
        ConfigurationError: There is none.
    """
    found = CONSISTENCIES.get(name) if isinstance(name, str) else None
    if found is None:
        offered = ", ".join(CONSISTENCIES)
        raise ConfigurationError(f"consistency: found {name!r}; allowed: {offered}")
    return found
