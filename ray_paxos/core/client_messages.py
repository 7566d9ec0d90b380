"""Messages between clients and roles: commands, reads, orders, and their answers.

```
Client ── OpenSession, Submit ─▶ Proposer ── Submitted, Redirected, Refused ─▶ Client
Client ── ReadIndex ─▶ Proposer ── ReadIndexConfirmed, QueryFailed ─▶ Client
Client ── TransferMaster ─▶ Proposer ── MasterTransferred, Redirected, Refused ─▶ Client
Client ── Query ─▶ Learner ── QueryResult, QueryFailed ─▶ Client
Client ── QueryMany ─▶ Learner ── QueryAnswers, QueryFailed ─▶ Client
Client ── QuorumRead ─▶ Acceptor ── QuorumReadAnswer ─▶ Client
Client ── Flush ─▶ Learner ── LearnerStatus ─▶ Client
```
"""

from __future__ import annotations

import enum

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Voter
from ray_paxos.core.results import EntryResult
from ray_paxos.core.values import CommandBatch


class TransferMaster(msgspec.Struct, frozen=True, array_like=True, tag="transfer_master"):
    """Asks a master to hand over.

    Attributes:
        request_id: The client's own.
        target: The member to lead next; 0 for any other, and this one stands back for a while.
        version: The instance of the master record whose reign is to end, so that an order that is
            given again, or comes late, ends no other; 0 for whichever there is.
    """

    request_id: int
    target: int
    version: int = 0


class MasterTransferred(msgspec.Struct, frozen=True, array_like=True, tag="master_transferred"):
    """The lease is released, and that member was asked to lead; 0 where none could be asked.

    Where the reign that was to end is over already, `target` is the member that leads since.
    """

    request_id: int
    target: int


class Flush(msgspec.Struct, frozen=True, array_like=True, tag="flush"):
    """Asks a learner to seal all it has learned, without waiting for size or age.

    Answered at once with its status; `durable_through` there rises as the segments are sealed.
    """


class OpenSession(msgspec.Struct, frozen=True, array_like=True, tag="open_session"):
    """A client asks for a session."""

    request_id: int
    label: str


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """A client's commands, in order.

    Attributes:
        request_id: The client's own, to match the reply.
        batches: Applied all or in part, in this order; each is answered.
        timeout_ms: How long after its arrival the client still wants it proposed; 0 for ever.
        trace: Of the users whose commands these are (`core.traces`); empty for none.
    """

    request_id: int
    batches: tuple[CommandBatch, ...]
    timeout_ms: int = 0
    trace: str = ""


class Submitted(msgspec.Struct, frozen=True, array_like=True, tag="submitted"):
    """All entries of a request were applied; one result each, in order."""

    request_id: int
    results: tuple[EntryResult, ...]


class Redirected(msgspec.Struct, frozen=True, array_like=True, tag="redirected"):
    """This proposer does not lead; whether the request's commands are chosen is not known to it.

    Attributes:
        request_id: Of the request.
        master: The member to ask; None where none is known.
        retry_after_ms: How long to wait where none is known.
        untouched: The call that this answers has put nothing into the log, and will not.
    """

    request_id: int
    master: int | None
    retry_after_ms: int
    untouched: bool = False


class RefusalCode(enum.IntEnum):
    """Why a proposer did not take a request."""

    OVERLOADED = 1
    TOO_LARGE = 2
    UNKNOWN_GROUP = 3
    MALFORMED = 4
    TOO_LATE = 5
    """Its time was over before it could be proposed."""
    APPLY_STOPPED = 6
    """A machine failed at this member (R12), and no other member is known to lead."""
    NOT_TRANSFERRED = 20
    NOT_CHANGED = 21


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The request was not taken: the call that this answers has put nothing into the log.

    Attributes:
        request_id: Of the request.
        code: Why.
        message: What a person should know, with the limit concerned.
        retry_after_ms: When trying again makes sense; 0 where it does not.
    """

    request_id: int
    code: RefusalCode
    message: str
    retry_after_ms: int


class Consistency(enum.IntEnum):
    """How fresh a read has to be."""

    STALE = 1
    """Whatever the learner asked has applied."""
    FOLLOWER = 2
    """At least an instance that the query names, or at most so old."""
    LEASE = 3
    """Linearizable, by the master's lease: without a round of messages, or not at all."""
    LINEARIZABLE = 4
    """It sees every command acknowledged before it began (R8)."""


class Query(msgspec.Struct, frozen=True, array_like=True, tag="query"):
    """A read of one machine at a learner, as of what it has applied.

    Attributes:
        request_id: The client's own.
        machine: Which machine.
        request: For the machine.
        at_least: Answer only once applied through this instance; 0 for at once.
        consistency: How fresh it has to be. LEASE and LINEARIZABLE are answered only under the
            lease of the learner's own member; without one, a `ReadIndex` says what to ask for.
        max_staleness_ms: With FOLLOWER, how old the answer may be; None for any age.
        timeout_ms: How long after it left somebody waits for the answer; 0 where that is not known.
        wait_ms: How long the learner holds it where it has not applied enough, or the machine has
            no answer yet (`core.held_queries`); 0 for not at all.
    """

    request_id: int
    machine: str
    request: bytes
    at_least: int
    consistency: Consistency = Consistency.STALE
    max_staleness_ms: int | None = None
    timeout_ms: int = 0
    wait_ms: int = 0


class QueryMany(msgspec.Struct, frozen=True, array_like=True, tag="query_many"):
    """Reads of one machine at a learner, all as of the same state; see `core.query_batches`.

    Answered as one: they are refused together, or each has an answer of its own, as far as these
    fit one reply.

    Attributes:
        request_id: The client's own.
        machine: Which machine.
        requests: For the machine; at least one.
        at_least: As of `Query`.
        consistency: As of `Query`.
        max_staleness_ms: As of `Query`.
        timeout_ms: How long after it left somebody waits for any of the answers.
        bytes_max: With the answer that reaches this many bytes the reply ends.
    """

    request_id: int
    machine: str
    requests: tuple[bytes, ...]
    at_least: int
    consistency: Consistency
    max_staleness_ms: int | None
    timeout_ms: int
    bytes_max: int


class ReadIndex(msgspec.Struct, frozen=True, array_like=True, tag="read_index"):
    """A client asks a master from which instance on a state is linearizable now.

    Attributes:
        request_id: The client's own.
    """

    request_id: int


class ReadIndexConfirmed(msgspec.Struct, frozen=True, array_like=True, tag="read_index_confirmed"):
    """Whatever anybody was acknowledged before the request was sent is at or below `index`.

    So the state of a learner that has applied `index` is fresh enough (R8), also where it was read
    before this answer came. But it must not show what a read by the lease does not see yet: so,
    while masters hold leases, it has to be the master's own learner, and it must have learned
    nothing above `ballot`: a later master may have chosen that, whose own learner is behind still.

    Attributes:
        request_id: Of the request.
        index: From where on a state is fresh enough.
        ballot: The master's.
    """

    request_id: int
    index: int
    ballot: Ballot


class QuorumRead(msgspec.Struct, frozen=True, array_like=True, tag="quorum_read"):
    """A client asks an acceptor how far it has accepted anything; see `core.quorum_read`.

    Attributes:
        request_id: The client's own.
    """

    request_id: int


class QuorumReadAnswer(msgspec.Struct, frozen=True, array_like=True, tag="quorum_read_answer"):
    """Whatever this acceptor has ever accepted is at or below `accepted_through`.

    Attributes:
        request_id: Of the request.
        accepted_through: The highest instance that it has voted for, that its vote floor has
            passed, or that made its configuration.
        voters: Of the configuration that the envelope names.
    """

    request_id: int
    accepted_through: int
    voters: tuple[Voter, ...]


class QueryResult(msgspec.Struct, frozen=True, array_like=True, tag="query_result"):
    """What the machine answered.

    Attributes:
        request_id: Of the query.
        applied_through: The instance that the answer is as of.
        result: The answer.
        learned: The highest ballot that the learner had learned anything at; None for none.
    """

    request_id: int
    applied_through: int
    result: bytes
    learned: Ballot | None = None


class QueryAnswers(msgspec.Struct, frozen=True, array_like=True, tag="query_answers"):
    """What the machine answered to each of several requests, in their order.

    Attributes:
        request_id: Of the `QueryMany`.
        applied_through: The instance that all answers are as of.
        results: The answers, of the first requests at least; None where one was refused.
        refusals: Why, for a person, by position.
        learned: As of `QueryResult`.
    """

    request_id: int
    applied_through: int
    results: tuple[bytes | None, ...]
    refusals: dict[int, str]
    learned: Ballot | None = None


class QueryProblem(enum.IntEnum):
    """Why a read was not served."""

    REFUSED = 1
    """The machine, or the group, cannot answer it: no other member can either."""
    STOPPED = 2
    """Applying stopped at this member (R12); another may go on."""
    BEHIND = 3
    """Not enough is applied here yet."""
    STALE = 4
    """What is applied may be older than was asked for."""
    NO_LEASE = 5
    """This member holds no lease, or its learner does not know of one."""
    NOT_MASTER = 6
    """This member does not lead; `master` does, as far as it knows."""
    OVERLOADED = 7
    """Too many reads wait here."""
    NO_GROUP = 8
    """This member has not the group; others have."""
    NOT_YET = 9
    """The machine has no answer yet, and the time to wait for it is over."""


class QueryFailed(msgspec.Struct, frozen=True, array_like=True, tag="query_failed"):
    """The read was not served; only after REFUSED asking again, or elsewhere, makes no sense.

    Attributes:
        request_id: Of the query.
        applied_through: How far the learner is; 0 from a proposer.
        message: Why, for a person.
        problem: Why.
        master: The member to ask instead; 0 where none is known.
    """

    request_id: int
    applied_through: int
    message: str
    problem: QueryProblem
    master: int = 0
