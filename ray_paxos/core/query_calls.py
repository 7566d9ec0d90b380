"""A client's reads on their way: what goes together, their bounds, times and messages."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import Consistency, QueryAnswers, QueryFailed
from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.messages import Message, RoleName
from ray_paxos.core.pending import PendingBatch
from ray_paxos.core.read_problems import ReadProblem
from ray_paxos.core.settings import MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class ReadTerms:
    """What reads have to have in common to go together.

    Attributes:
        machine: Which is read.
        consistency: How fresh the answers have to be.
        at_least: The instance that they have to hold; None for what this client was acknowledged.
        max_staleness_ms: How old they may be; None for any age.
    """

    machine: str
    consistency: Consistency
    at_least: int | None = 0
    max_staleness_ms: int | None = None


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """Bounds and times of one client's reads.

    Attributes:
        requests_max: Reads in one batch.
        request_bytes_max: Their bytes (at least one read).
        answer_bytes_max: Of one reply (at least one answer); what does not fit is asked again.
        window_max: Batches on their way, of each consistency.
        held_reads_max: Reads without an answer.
        held_bytes_max: Their bytes.
        try_ns: How long one try waits.
        pause_ns: After a failure, before the next try; doubles
        pause_max_ns: up to this.
        owed_calls_max: Unanswered calls after which a member gets no more of them,
        owed_ns: until one is answered or is this old.
        look_interval_ns: How often reads are looked through for those whose time is over.
    """

    requests_max: int = 500
    request_bytes_max: int = 90_000
    answer_bytes_max: int = 90_000
    window_max: int = 4
    held_reads_max: int = 100_000
    held_bytes_max: int = 64_000_000
    try_ns: int = 2_000 * MILLISECOND_NS
    pause_ns: int = 5 * MILLISECOND_NS
    pause_max_ns: int = 100 * MILLISECOND_NS
    owed_calls_max: int = 32
    owed_ns: int = 60_000 * MILLISECOND_NS
    look_interval_ns: int = 50 * MILLISECOND_NS


class Way(enum.Enum):
    """What the answers to the messages of a try are for."""

    ITSELF = "itself"
    """The learner's answers count, if they are any."""
    INDEX = "index"
    """They count together with the master's index."""
    AT_INDEX = "at index"
    """The same; the index is there, and was asked for."""


@dataclass(slots=True, eq=False)
class ReadBatch:
    """Reads that go together.

    Attributes:
        terms: Of all of them.
        reads: What they ask, and who wants to know.
        member_id: Who is asked.
        pause_ns: The next pause.
        search: For whom to ask.
        by_index: The next try is by the master's index, though masters hold leases.
        way: Of the try on its way.
        asked: Numbers of its messages that are not answered yet.
        expires_ns: When it is given up; while none is on its way, when the next one may begin.
        index: The master's; None until it is there.
        ballot: The master's, with it.
        early: What the learner said, while the index is not there.
        problem: What kept the latest try from an answer.
        tries: How many came to nothing.
        stopped: Members that have stopped applying.
    """

    terms: ReadTerms
    reads: PendingBatch
    member_id: int
    pause_ns: int
    search: MasterSearch
    by_index: bool = False
    way: Way = Way.ITSELF
    asked: set[int] = field(default_factory=set)
    expires_ns: int = 0
    index: int | None = None
    ballot: Ballot | None = None
    early: QueryAnswers | QueryFailed | None = None
    problem: ReadProblem | None = None
    tries: int = 0
    stopped: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Ask:
    """One message to one role of one member.

    Attributes:
        number: The message's request_id.
        member_id: Whose role.
        role: Which.
        message: To be sent.
        sent_ns: When.
        batch: What it is for.
    """

    number: int
    member_id: int
    role: RoleName
    message: Message
    sent_ns: int
    batch: ReadBatch
