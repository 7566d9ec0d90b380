"""Reads of one client: whom to ask, and what to do with what is not an answer.

```
 linearizable   the master's learner, under the master's lease      one call
                else the master's proposer for the index, and the   two calls at once;
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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError

from ray_paxos.actors.answers import state_of
from ray_paxos.actors.names import NAMESPACE, actor_name
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryProblem,
    QueryResult,
    ReadIndex,
    ReadIndexConfirmed,
    Refused,
)
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.errors import ConfigurationError, LeaseError, QueryError, StaleReadError

CONSISTENCIES = {
    "linearizable": Consistency.LINEARIZABLE,
    "lease": Consistency.LEASE,
    "follower": Consistency.FOLLOWER,
    "stale": Consistency.STALE,
}
TRY_S = 2.0
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
class _Problem:
    """Why one try gave no answer.

    Attributes:
        text: For a person.
        problem: As the member said; None where it said nothing.
        master: The member it named as the master; 0 for none.
    """

    text: str
    problem: QueryProblem | None = None
    master: int = 0


class Reader:
    """Reads from one group. May be used by several threads: a race costs one more try."""

    def __init__(
        self, *, cluster: str, genesis: bytes, group: int, names: Mapping[int, str], has_lease: bool
    ) -> None:
        """Read from the members of a cluster.

        Args:
            cluster: Its name.
            genesis: Hash of its genesis.
            group: Whose machines.
            names: Of the members, by id.
            has_lease: Whether its masters hold leases.
        """
        self._cluster = cluster
        self._genesis = genesis
        self._group = group
        self._names = names
        self._ids = sorted(names)
        self._has_lease = has_lease
        # Its own address: the numbers of its reads and of the session's requests are not the same.
        self._random = random.Random()
        self._address = Address(self._random.getrandbits(62) | 1, RoleName.CLIENT)
        self._handles: dict[tuple[int, RoleName], Any] = {}
        self._request_ids = itertools.count(1)
        self._master = self._random.choice(self._ids)
        self._follower = self._random.choice(self._ids)

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
        hints, pause_s = 0, PAUSE_S
        while True:
            outcome = self._try(member, read, deadline)
            if isinstance(outcome, bytes):
                if is_of_master:
                    self._master = member
                else:
                    self._follower = member
                return outcome
            if outcome.problem is QueryProblem.STOPPED:
                stopped.add(member)
                if len(stopped) == len(self._ids):
                    raise QueryError(f"every member has stopped applying; {outcome.text}")
            following = self._following(member, outcome)
            hints += 1
            if not is_of_master or following != outcome.master or hints > len(self._ids):
                # Also where members name each other: neither leads yet.
                time.sleep(min(pause_s, max(deadline - time.monotonic(), 0.0)))
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
            if time.monotonic() >= deadline:
                raise _late(outcome, timeout_s)
            member = following

    def _following(self, member: int, outcome: _Problem) -> int:
        """Whom to ask next."""
        if outcome.master and outcome.master != member and outcome.master in self._names:
            return outcome.master
        is_worth_it = outcome.problem in (
            QueryProblem.BEHIND,
            QueryProblem.NO_LEASE,
            QueryProblem.OVERLOADED,
        )
        # What knows no other master is asked again, but not for ever.
        if is_worth_it and self._random.random() < 0.8:
            return member
        return self._ids[(self._ids.index(member) + 1) % len(self._ids)]

    def _try(self, member: int, read: _Read, deadline: float) -> bytes | _Problem:
        """One try at one member: its answer, or why there is none."""
        if read.consistency is not Consistency.LINEARIZABLE or self._has_lease:
            start = self._start_query(member, read, read.consistency, read.at_least)
            outcome = self._finish_query(member, start, deadline)
            if isinstance(outcome, QueryResult):
                return outcome.result
            is_other = outcome.master not in (0, member)
            if (
                read.consistency is not Consistency.LINEARIZABLE
                or outcome.problem is not QueryProblem.NO_LEASE
                or is_other
            ):
                return outcome
        return self._try_by_index(member, read, deadline)

    def _try_by_index(self, member: int, read: _Read, deadline: float) -> bytes | _Problem:
        """Ask the proposer for the index, and its learner for an answer that may do already."""
        asked = self._start(member, RoleName.PROPOSER, ReadIndex(next(self._request_ids)))
        start = self._start_query(member, read, Consistency.STALE, read.at_least)
        confirmed = self._finish(member, asked, deadline)
        early = self._finish(member, start, deadline)
        if not isinstance(confirmed, ReadIndexConfirmed):
            return _problem_of(self._names[member], confirmed)
        # A refusal, too, counts only where the state is fresh enough.
        if not (
            isinstance(early, QueryResult | QueryFailed)
            and early.applied_through >= confirmed.index
        ):
            at_least = max(read.at_least, confirmed.index)
            start = self._start_query(member, read, Consistency.STALE, at_least)
            early = self._finish(member, start, deadline)
        outcome = self._judge(member, early)
        if not isinstance(outcome, QueryResult):
            return outcome
        if outcome.learned is not None and outcome.learned > confirmed.ballot:
            name = self._names[member]
            return _Problem(f"member {name} was deposed meanwhile", QueryProblem.NOT_MASTER)
        return outcome.result

    def _start_query(
        self, member: int, read: _Read, consistency: Consistency, at_least: int
    ) -> Any | _Problem:
        query = Query(
            next(self._request_ids),
            read.machine,
            read.request,
            at_least,
            consistency,
            read.max_staleness_ms,
        )
        return self._start(member, RoleName.LEARNER, query)

    def _finish_query(
        self, member: int, started: Any | _Problem, deadline: float
    ) -> QueryResult | _Problem:
        return self._judge(member, self._finish(member, started, deadline))

    def _judge(self, member: int, answer: Message | _Problem) -> QueryResult | _Problem:
        if isinstance(answer, QueryResult):
            return answer
        if isinstance(answer, QueryFailed) and answer.problem is QueryProblem.REFUSED:
            raise QueryError(answer.message)
        return _problem_of(self._names[member], answer)

    # Calls.

    def _start(self, member: int, role: RoleName, message: Message) -> Any | _Problem:
        """Make a call; gives the reference of its answer."""
        envelope = Envelope(self._genesis, self._group, self._address, 0, 0, 0, message)
        try:
            handle = self._handle(member, role)
            call = handle.submit if role is RoleName.PROPOSER else handle.deliver
            return call.remote(encode_envelopes((envelope,)))
        except ValueError as error:
            return _Problem(str(error))
        except RayError as error:
            return self._lost(member, error)

    def _finish(self, member: int, started: Any | _Problem, deadline: float) -> Message | _Problem:
        """Wait for what a call came to."""
        if isinstance(started, _Problem):
            return started
        name = self._names[member]
        patience_s = min(max(deadline - time.monotonic(), 0.0), TRY_S)
        try:
            answer = ray.get(started, timeout=patience_s)
        except GetTimeoutError:
            return _Problem(f"member {name} took longer than {patience_s:.3g} s")
        except RayError as error:
            return self._lost(member, error)
        state = state_of(answer)
        if state is not None:
            return _Problem(f"member {name}: {state}")
        replies = decode_envelopes(answer)
        if not replies:
            return _Problem(f"member {name} does not serve group {self._group}, or gave up waiting")
        return replies[0].message

    def _lost(self, member: int, error: RayError) -> _Problem:
        if isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
            for role in (RoleName.PROPOSER, RoleName.LEARNER):
                self._handles.pop((member, role), None)
        return _Problem(f"member {self._names[member]}: {type(error).__name__}")

    def _handle(self, member_id: int, role: RoleName) -> Any:
        handle = self._handles.get((member_id, role))
        if handle is None:
            name = actor_name(self._cluster, self._names[member_id], role)
            handle = self._handles[member_id, role] = ray.get_actor(name, namespace=NAMESPACE)
        return handle


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


def _problem_of(name: str, answer: Message | _Problem) -> _Problem:
    if isinstance(answer, _Problem):
        return answer
    if isinstance(answer, QueryFailed):
        return _Problem(f"member {name}: {answer.message}", answer.problem, answer.master)
    if isinstance(answer, Refused):
        return _Problem(f"member {name}: {answer.message}")
    return _Problem(f"member {name} answered with {type(answer).__name__}")


def _late(outcome: _Problem, timeout_s: float) -> QueryError:
    text = f"no answer within {timeout_s:g} s: {outcome.text}. A read changes nothing: ask again"
    if outcome.problem is QueryProblem.NO_LEASE:
        return LeaseError(text)
    if outcome.problem in (QueryProblem.STALE, QueryProblem.BEHIND):
        return StaleReadError(text)
    return QueryError(text)
