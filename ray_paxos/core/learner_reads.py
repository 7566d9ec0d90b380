"""What a learner knows of how fresh its state is, and what it answers from it.

Rules:

1. Under its own member's lease it answers linearizable reads by itself. Whatever this master
   acknowledged was applied here first, by this life of the learner, or is named by the notice.
2. A follower's age: with each heartbeat the master says which status of this learner it had before
   the round began, and how far it had chosen then. Once a quorum has confirmed the round, whatever
   anybody acknowledged before that status was sent is at or below that instance. So both times
   are on the learner's own clock:

```
 learner ── status, sent at 5 ──▶ master ── heartbeat 9: chosen through 40, heard 5 ──▶ learner
                                         ── heartbeat 10: round 9 is confirmed ───────▶ learner
 applied through 40: the state is as of 5, or newer
```
"""

from __future__ import annotations

from collections import OrderedDict, deque

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryProblem,
    QueryResult,
)
from ray_paxos.core.lease import LeaseView, Notice
from ray_paxos.core.messages import Envelope, Heartbeat, LeaseNotice
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.errors import NotYetError, QueryError
from ray_paxos.machines.batches import encodable
from ray_paxos.machines.host import MachineHost

ROUNDS_MAX = 256
ANSWER_OVERHEAD_BYTES = 5
"""What the wire form adds to an answer, at most."""


class LearnerReads:
    """The freshness of one learner.

    Invariants: at most `ROUNDS_MAX` rounds are remembered that are not confirmed yet, and as many
    that are. Of these some are dropped when there are too many: how old a state is at most is then
    known to about a hundredth of how far it was behind.

    Attributes:
        lease: What is known of the own member's lease.
    """

    def __init__(self, incarnation: int) -> None:
        """Start knowing nothing.

        Args:
            incarnation: Of the learner's folder.
        """
        self.lease = LeaseView(incarnation)
        self._incarnation = incarnation
        self._unconfirmed: OrderedDict[tuple[Ballot, int], tuple[int, int]] = OrderedDict()
        # (chosen through, as of), not applied yet, ascending in both.
        self._unapplied: deque[tuple[int, int]] = deque()
        self._fresh_ns: int | None = None

    # Freshness.

    def on_heartbeat(self, heartbeat: Heartbeat, applied_through: int) -> None:
        """A master told how far it had chosen, and which of its rounds are confirmed."""
        heard = heartbeat.heard
        if heard is not None and heard.incarnation == self._incarnation:
            key = (heartbeat.ballot, heartbeat.sequence)
            self._unconfirmed[key] = (heartbeat.chosen_through, heard.sent_ns)
            if len(self._unconfirmed) > ROUNDS_MAX:
                self._unconfirmed.popitem(last=False)
        for ballot, sequence in list(self._unconfirmed):
            if ballot == heartbeat.ballot and sequence <= heartbeat.confirmed_sequence:
                self._confirmed(*self._unconfirmed.pop((ballot, sequence)))
        self._take_applied(applied_through)

    def _confirmed(self, chosen_through: int, as_of_ns: int) -> None:
        """Note a point; one that says less than another is dropped."""
        unapplied = self._unapplied
        if unapplied and (chosen_through < unapplied[-1][0] or as_of_ns <= unapplied[-1][1]):
            return
        unapplied.append((chosen_through, as_of_ns))
        if len(unapplied) > ROUNDS_MAX:
            # Never the oldest: however far behind the learner is, that is what it gets to first.
            # The one that leaves the smallest gap, so that they stay evenly spread.
            times = [as_of_ns for _, as_of_ns in unapplied]
            del unapplied[min(range(1, ROUNDS_MAX), key=lambda i: times[i + 1] - times[i - 1])]

    def _take_applied(self, applied_through: int) -> None:
        while self._unapplied and self._unapplied[0][0] <= applied_through:
            _, as_of_ns = self._unapplied.popleft()
            if self._fresh_ns is None or as_of_ns > self._fresh_ns:
                self._fresh_ns = as_of_ns

    def staleness_ns(self, applied_through: int, now_ns: int) -> int | None:
        """How old the applied state is at most; None where nothing is known.

        Args:
            applied_through: By the learner.
            now_ns: Its clock.
        """
        self._take_applied(applied_through)
        return None if self._fresh_ns is None else now_ns - self._fresh_ns

    # What may be answered.

    def on_notice(self, envelope: Envelope, message: LeaseNotice) -> None:
        """The own proposer told of its lease."""
        notice = Notice(
            message.ballot, envelope.config_id, message.until_ns, message.chosen_through
        )
        self.lease.noticed(notice, envelope.incarnation, message.learner_incarnation)

    def answer(
        self,
        query: Query | QueryMany,
        host: MachineHost,
        *,
        stopped: str,
        applied_through: int,
        now_ns: int,
        config_id: int,
        learned: Ballot | None,
    ) -> QueryResult | QueryAnswers | QueryFailed:
        """Read the state, if it is as fresh as is asked for.

        Args:
            query: The read, or the reads.
            host: The state.
            stopped: Why applying has stopped; empty while it goes on.
            applied_through: As `refusal`.
            now_ns: As `refusal`.
            config_id: As `refusal`.
            learned: As `refusal`.

        Raises:
            NotYetError: A query that may wait has no answer yet.
        """
        request_id = query.request_id
        if stopped:
            refusal: tuple[QueryProblem, str] | None = (QueryProblem.STOPPED, stopped)
        else:
            refusal = self.refusal(
                query,
                applied_through=applied_through,
                now_ns=now_ns,
                config_id=config_id,
                learned=learned,
            )
        if refusal is not None:
            problem, why = refusal
            master = host.master.ballot.member_id if host.master is not None else 0
            return QueryFailed(request_id, applied_through, why, problem, master)
        if isinstance(query, QueryMany):
            results, refusals = _execute(query, host)
            return QueryAnswers(request_id, applied_through, results, refusals, learned)
        try:
            result = host.query(query.machine, query.request)
        except QueryError as error:
            if query.wait_ms and isinstance(error, NotYetError):
                raise
            why = encodable(str(error))
            return QueryFailed(request_id, applied_through, why, QueryProblem.REFUSED)
        return QueryResult(request_id, applied_through, result, learned)

    def refusal(
        self,
        query: Query | QueryMany,
        *,
        applied_through: int,
        now_ns: int,
        config_id: int,
        learned: Ballot | None,
    ) -> tuple[QueryProblem, str] | None:
        """Why a read cannot be answered from the state as it is; None where it can.

        Args:
            query: The read.
            applied_through: By the learner.
            now_ns: Its clock, read after the query arrived.
            config_id: Of the configuration it follows.
            learned: The highest ballot it learned anything at.
        """
        at_least = query.at_least
        if query.consistency >= Consistency.LEASE:
            point = self.lease.read_point(now_ns, config_id, learned)
            if point is None:
                return QueryProblem.NO_LEASE, "this member knows of no lease of its own"
            at_least = max(at_least, point)
        if applied_through < at_least:
            behind = f"applied through {applied_through}, asked for {at_least}"
            return QueryProblem.BEHIND, behind
        if query.max_staleness_ms is not None:
            age_ns = self.staleness_ns(applied_through, now_ns)
            if age_ns is None:
                return QueryProblem.STALE, "this member does not know how old its state is"
            if age_ns > query.max_staleness_ms * MILLISECOND_NS:
                age = f"the state may be {age_ns // MILLISECOND_NS} ms old"
                return QueryProblem.STALE, f"{age}, at most {query.max_staleness_ms} were asked for"
        return None


def _execute(
    query: QueryMany, host: MachineHost
) -> tuple[tuple[bytes | None, ...], dict[int, str]]:
    """The answers of a machine, as far as they fit one reply, and its refusals by position."""
    machine, ask, left = query.machine, host.query, query.bytes_max
    results: list[bytes | None] = []
    refusals: dict[int, str] = {}
    for request in query.requests:
        try:
            result = ask(machine, request)
        except QueryError as error:
            refusal = refusals[len(results)] = encodable(str(error))
            results.append(None)
            left -= len(refusal)
        else:
            results.append(result)
            left -= len(result) + ANSWER_OVERHEAD_BYTES
        if left <= 0:
            break
    return tuple(results), refusals
