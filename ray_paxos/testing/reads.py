"""Reads of a simulated client: whom it asks, and what it does with what is no answer.

As the real client does (`actors.reader`): a linearizable read goes to the learner of the member
that seems to lead; where that knows of no lease, to a majority of acceptors and to a learner at
once, or to the proposer for an index and, meanwhile, to a learner for an answer that may do
already. A lease read is answered by that learner or not at all; a follower or stale read by any.
What is refused or not answered in time is asked again, elsewhere.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryProblem,
    QueryResult,
    QuorumRead,
    QuorumReadAnswer,
    ReadIndex,
    ReadIndexConfirmed,
)
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.quorum import majority
from ray_paxos.core.quorum_read import QuorumAnswers, Verdict
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.options import ClientOptions
from ray_paxos.testing.workload import Workload

TRIES_MAX = 8
OPEN_MAX = 4
PAUSE_NS = 20 * MILLISECOND_NS
STALENESS_MS = (20, 100, 400, 1_500)
KINDS = (
    (0.4, Consistency.LINEARIZABLE),
    (0.6, Consistency.LEASE),
    (0.9, Consistency.FOLLOWER),
    (1.0, Consistency.STALE),
)

Answer: TypeAlias = QueryResult | QueryFailed | QuorumReadAnswer | ReadIndexConfirmed


class Way(enum.Enum):
    """What an answer to a message of a read is for."""

    ITSELF = "itself"
    """It answers the read, if it is an answer."""
    INDEX = "index"
    """It counts together with the master's index, or is that."""
    QUORUM = "quorum"
    """It counts together with those of a majority of acceptors, or is one."""


@dataclass
class Read:
    """One read of a client, from call to answer.

    Attributes:
        client: The client's id.
        group: Whose machines.
        machine: Which machine.
        request: For the machine.
        consistency: How fresh it has to be.
        at_least: The instance that it has to hold.
        max_staleness_ms: How old it may be; None for any age.
        sees: By the judge: what a linearizable read called at that moment has to hold.
        master: The member asked, as the one that seems to lead, or any.
        tries: How often it was begun.
        index: From the master; None until it is there.
        ballot: The master's, with it.
        answer: Of a learner, as long as it is not known to be fresh enough.
        quorum: The answers of acceptors and a learner; None while it goes another way.
        is_over: It was answered, or given up.
        is_batched: It goes with others (`batched_reads`).
        history_id: In the history of its key; None where it is in none.
    """

    client: int
    group: int
    machine: str
    request: bytes
    consistency: Consistency
    at_least: int = 0
    max_staleness_ms: int | None = None
    sees: int = 0
    master: int = 0
    tries: int = 0
    index: int | None = None
    ballot: Ballot | None = None
    answer: QueryResult | None = None
    quorum: QuorumAnswers | None = None
    is_over: bool = False
    is_batched: bool = False
    history_id: int | None = None


class ReadJudge(Protocol):
    """Who is told of reads."""

    def read_called(self, read: Read) -> None:
        """A read is about to be sent for the first time."""

    def read_answered(self, read: Read, answer: QueryResult) -> None:
        """A read has its answer."""


Send = Callable[[Address, Message], None]


class ClientReads:
    """The reads of one client.

    Invariant: `_asked` names, for every message that is not answered yet, its read, what an answer
    is for, and in which try it was sent.
    """

    def __init__(
        self,
        *,
        client_id: int,
        group: int,
        members: tuple[int, ...],
        has_lease: bool,
        options: ClientOptions,
        scheduler: Scheduler,
        random: random.Random,
        workload: Workload,
        judge: ReadJudge,
        next_request: Callable[[], int],
        send: Send,
    ) -> None:
        """Start with none.

        Args:
            client_id: Whose.
            group: Of whose machines.
            members: All that have the group.
            has_lease: Whether masters hold leases.
            options: How long to wait.
            scheduler: Virtual time.
            random: The run's.
            workload: Draws what to read.
            judge: Is told.
            next_request: Numbers of requests.
            send: Sends for the client.
        """
        self._client_id = client_id
        self._group = group
        self._members = members
        self._has_lease = has_lease
        self._timeout_ns = options.timeout_ns
        self._scheduler = scheduler
        self._random = random
        self._workload = workload
        self._judge = judge
        self._next_request = next_request
        self._send = send
        self._asked: dict[int, tuple[Read, Way, int]] = {}
        self._open = 0
        self._master = members[0]

    def call(self, at_least: int) -> None:
        """Read something, somehow.

        Args:
            at_least: What a read that names an instance has to hold.
        """
        if self._open >= OPEN_MAX:
            return
        draw = self._random.random
        machine, request = self._workload.draw_read()
        kind = draw()
        consistency = next(consistency for share, consistency in KINDS if kind < share)
        read = Read(self._client_id, self._group, machine, request, consistency)
        if consistency is Consistency.FOLLOWER:
            if draw() < 0.6:
                read.max_staleness_ms = STALENESS_MS[self._random.randrange(len(STALENESS_MS))]
            else:
                read.at_least = at_least
        is_of_master = consistency >= Consistency.LEASE
        read.master = self._master if is_of_master else self._some_member()
        self._open += 1
        self._judge.read_called(read)
        self._try(read)

    def _some_member(self) -> int:
        return self._members[self._random.randrange(len(self._members))]

    # Asking.

    def _try(self, read: Read) -> None:
        read.tries += 1
        read.index = read.ballot = read.answer = read.quorum = None
        if read.tries > TRIES_MAX:
            self._end(read)
            return
        self._scheduler.after(self._timeout_ns, partial(self._expire, read, read.tries))
        asks_many = not self._has_lease or self._random.random() < 0.5
        if read.consistency is Consistency.LINEARIZABLE and asks_many:
            self._ask_many(read)
        else:
            self._query(read, read.master, read.consistency, read.at_least, Way.ITSELF)

    def _ask_many(self, read: Read) -> None:
        """Without a lease: by a quorum of acceptors, or by the master's index."""
        if self._random.random() < 0.6:
            self._ask_quorum(read)
        else:
            self._ask_index(read)

    def _ask_quorum(self, read: Read) -> None:
        """A majority of the acceptors or more, and a learner, at once."""
        is_of_master = self._random.random() < 0.7
        learner = read.master if is_of_master else self._some_member()
        read.quorum = QuorumAnswers(learner)
        count = self._random.randint(majority(len(self._members)), len(self._members))
        for member in self._random.sample(self._members, count):
            request = QuorumRead(self._note(read, Way.QUORUM))
            self._send(Address(member, RoleName.ACCEPTOR), request)
        self._query(read, learner, Consistency.STALE, 0, Way.QUORUM)

    def _ask_index(self, read: Read) -> None:
        """The index of the master, and an answer of a learner, at once."""
        read.quorum = None
        request_id = self._note(read, Way.INDEX)
        self._send(Address(read.master, RoleName.PROPOSER), ReadIndex(request_id))
        self._query(read, self._learner_for_index(read), Consistency.STALE, 0, Way.INDEX)

    def _learner_for_index(self, read: Read) -> int:
        """Whose learner to ask beside the master's proposer (see `ReadIndexConfirmed`)."""
        if self._has_lease or self._random.random() < 0.5:
            return read.master
        return self._some_member()

    def _query(
        self, read: Read, member: int, consistency: Consistency, at_least: int, way: Way
    ) -> None:
        query = Query(
            self._note(read, way),
            read.machine,
            read.request,
            at_least,
            consistency,
            read.max_staleness_ms,
        )
        self._send(Address(member, RoleName.LEARNER), query)

    def _query_at_index(self, read: Read, tries: int) -> None:
        if not read.is_over and read.tries == tries and read.index is not None:
            self._query(read, read.master, Consistency.STALE, read.index, Way.INDEX)

    def _note(self, read: Read, way: Way) -> int:
        request_id = self._next_request()
        self._asked[request_id] = (read, way, read.tries)
        return request_id

    def _expire(self, read: Read, tries: int) -> None:
        if not read.is_over and read.tries == tries:
            read.master = self._some_member()
            self._try(read)

    def _again(self, read: Read, member: int) -> None:
        """Try again, at once where another member is named, else after a pause."""
        delay_ns = PAUSE_NS if member == read.master else 0
        read.master = member
        self._scheduler.after(delay_ns, partial(self._retry, read, read.tries))

    def _retry(self, read: Read, tries: int) -> None:
        if not read.is_over and read.tries == tries:
            self._try(read)

    # Answers.

    def receive(self, envelope: Envelope, message: Answer) -> None:
        """Take an answer in; one that nobody waits for is passed over."""
        read, way, tries = self._asked.pop(message.request_id, (None, Way.ITSELF, 0))
        if read is None or read.is_over:
            return
        if way is not Way.ITSELF and tries != read.tries:
            # Index and answer belong to one master and its own learner: to one try.
            return
        if way is Way.QUORUM:
            self._on_quorum(read, envelope)
            return
        match message:
            case ReadIndexConfirmed(index=index, ballot=ballot):
                read.index, read.ballot = index, ballot
                if read.answer is not None:
                    self._answer_by_index(read, read.answer)
            case QueryResult() if way is Way.ITSELF:
                self._answer(read, message)
            case QueryResult():
                self._answer_by_index(read, message)
            case QueryFailed():
                self._on_failed(read, message)

    def _on_quorum(self, read: Read, envelope: Envelope) -> None:
        quorum = read.quorum
        if quorum is None:
            # It has gone on by the index.
            return
        quorum.take(envelope)
        match quorum.verdict():
            case Verdict.COUNTS:
                assert quorum.answer is not None
                self._answer(read, quorum.answer)
            case Verdict.BEHIND:
                learner, at_least = quorum.member_id, quorum.ask_again()
                self._query(read, learner, Consistency.STALE, at_least, Way.QUORUM)
            case Verdict.INCONCLUSIVE:
                self._ask_index(read)
            case Verdict.INCOMPLETE:
                pass

    def _answer_by_index(self, read: Read, answer: QueryResult) -> None:
        read.answer = answer
        if read.index is None:
            return
        assert read.ballot is not None, "it came with the index"
        if answer.learned is not None and answer.learned > read.ballot and self._has_lease:
            self._again(read, self._some_member())
        elif answer.applied_through >= read.index:
            self._answer(read, answer)
        else:
            self._query_at_index(read, read.tries)

    def _answer(self, read: Read, answer: QueryResult) -> None:
        if read.consistency >= Consistency.LEASE:
            self._master = read.master
        self._end(read)
        self._judge.read_answered(read, answer)

    def _on_failed(self, read: Read, failed: QueryFailed) -> None:
        problem, master = failed.problem, failed.master
        if problem is QueryProblem.REFUSED:
            self._end(read)
            return
        if problem is QueryProblem.BEHIND and read.index is not None:
            again = partial(self._query_at_index, read, read.tries)
            self._scheduler.after(PAUSE_NS, again)
            return
        is_of_master = read.consistency >= Consistency.LEASE
        is_other = master not in (0, read.master)
        if is_of_master and is_other:
            self._again(read, master)
        elif problem is QueryProblem.NO_LEASE and read.consistency is Consistency.LINEARIZABLE:
            self._ask_many(read)
        elif is_of_master and problem is QueryProblem.NO_LEASE and self._random.random() < 0.8:
            self._again(read, read.master)
        else:
            self._again(read, self._some_member())

    def _end(self, read: Read) -> None:
        read.is_over = True
        self._open -= 1
