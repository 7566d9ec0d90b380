"""Reads of one client that wait, go out together and come back together; pure.

```
 add ─▶ waiting ─▶ a batch ──QueryMany──▶ the master's learner, under its lease  ──▶ answers
                     │ ▲ again, elsewhere   else its proposer for the index, and its
                     └─┘                    learner for the answers, at once
```

Rules:

1. While calls are on their way, what is asked waits; then it goes out together, what asks for the
   same machine on the same terms in one batch. So the number of calls falls as load rises, and a
   read waits for no company on an idle path.
2. A batch is closed before its first message leaves. Its index is thus taken, or its lease looked
   at, after each of its reads was asked (R8); one that is asked later goes with a later batch.
3. What is no answer is asked again, of another member, as a whole (`read_problems`); a read leaves
   its batch with an answer, with the machine's refusal of it alone, or when its time is over.
4. A member that owes too many answers is asked nothing more until it gives some.

Commands wait in the same way (`waiting`), and their parts are told what became of them in the same
way (`pending`): the answers of a batch are handed on as the results of one entry.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ray_paxos.core.client_messages import (
    Consistency,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryProblem,
    ReadIndex,
    ReadIndexConfirmed,
)
from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.messages import Message, RoleName
from ray_paxos.core.patience import Patience
from ray_paxos.core.pending import FOREVER_NS, NOBODY, Outcomes, PendingBatch, Receiver
from ray_paxos.core.query_calls import Ask, QuerySettings, ReadBatch, ReadTerms, Way
from ray_paxos.core.read_problems import ReadProblem, following, late, more_telling, problem_of
from ray_paxos.core.results import EntryResult, Note, NoteCode
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.waiting import WaitingCommands
from ray_paxos.errors import PaxosError, QueryError

_NO_TURN = ReadProblem("its turn did not come, behind earlier reads of this client")


@dataclass(slots=True)
class _Kind:
    """The reads of one consistency.

    Attributes:
        waiting: Those that wait, by their terms; none of them is empty.
        batches: Those on their way, or to be sent again.
        count: How many reads wait.
        flying: How many reads are in the batches.
        member_id: Who answered last, or is to be asked next.
        search: Of a batch that found nobody, for the next one to go on with.
    """

    member_id: int
    waiting: OrderedDict[ReadTerms, WaitingCommands] = field(default_factory=OrderedDict)
    batches: list[ReadBatch] = field(default_factory=list)
    count: int = 0
    flying: int = 0
    search: MasterSearch = field(default_factory=MasterSearch)


class QueryBatches:
    """Decides what goes out next, and takes in what comes back.

    Invariants: no read joins a batch of which a message has left; `held_reads` and `held_bytes`
    are those of all that waits or is in a batch.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        patience: Patience,
        *,
        has_lease: bool,
        settings: QuerySettings,
        random: random.Random,
    ) -> None:
        """Start with none.

        Args:
            names: Of the members, by id; may grow.
            patience: Of the client.
            has_lease: Whether masters hold leases.
            settings: Bounds and times.
            random: Chooses whom to ask.
        """
        self.held_reads = 0
        self.held_bytes = 0
        self._names = names
        self._patience = patience
        self._has_lease = has_lease
        self._settings = settings
        self._random = random
        self._numbers = itertools.count(1)
        self._kinds = {kind: _Kind(random.choice(self._ids)) for kind in Consistency}
        # All messages without an answer, in the order in which they left.
        self._asks: dict[int, Ask] = {}
        self._looked_ns = 0

    @property
    def _ids(self) -> list[int]:
        return sorted(self._names)

    # In.

    def has_room(self, reads: int, byte_count: int) -> bool:
        """Whether so much more may be held; what alone is over a limit may, where it is alone."""
        settings = self._settings
        return not self.held_reads or (
            self.held_reads + reads <= settings.held_reads_max
            and self.held_bytes + byte_count <= settings.held_bytes_max
        )

    def add_one(self, terms: ReadTerms, request: bytes, receiver: Receiver) -> bool:
        """Have one read wait for its batch; whether that can be sent now."""
        kind = self._kinds[terms.consistency]
        self._queue(kind, terms).add_one("", request, receiver)
        kind.count += 1
        self.held_reads += 1
        self.held_bytes += len(request)
        return self._may_form(kind)

    def add(self, terms: ReadTerms, requests: tuple[bytes, ...], receiver: Receiver) -> bool:
        """As `add_one`, of several, at least one."""
        kind = self._kinds[terms.consistency]
        self._queue(kind, terms).add("", requests, receiver)
        kind.count += len(requests)
        self.held_reads += len(requests)
        self.held_bytes += sum(map(len, requests))
        return self._may_form(kind)

    def _queue(self, kind: _Kind, terms: ReadTerms) -> WaitingCommands:
        queue = kind.waiting.get(terms)
        if queue is None:
            settings = self._settings
            queue = WaitingCommands(settings.request_bytes_max, settings.requests_max)
            kind.waiting[terms] = queue
        return queue

    # Out.

    def next_asks(self, now_ns: int, own_instance: int) -> list[Ask]:
        """The messages to send now.

        Args:
            now_ns: The client's clock.
            own_instance: The highest instance in which this client was acknowledged.
        """
        asks: list[Ask] = []
        for kind in self._kinds.values():
            for batch in kind.batches:
                if not batch.asked and now_ns >= batch.expires_ns:
                    self._begin_try(batch, now_ns, own_instance, asks)
            while self._may_form(kind):
                formed = self._form(kind)
                if formed is not None:
                    self._begin_try(formed, now_ns, own_instance, asks)
        return asks

    def _may_form(self, kind: _Kind) -> bool:
        """Whether what waits is enough for a batch of its own while others are on their way.

        With none on its way it always is; otherwise the window is shared out, as of commands.
        """
        window_max, batches = self._settings.window_max, len(kind.batches)
        if not kind.count or batches >= window_max:
            return False
        return not batches or kind.count * window_max >= kind.count + kind.flying

    def _form(self, kind: _Kind) -> ReadBatch | None:
        """Close a batch of what waited longest; None where all of it was cancelled."""
        terms, queue = next(iter(kind.waiting.items()))
        kind.waiting.move_to_end(terms)
        with self._shrinking(kind, terms, queue):
            taken, _ = queue.number(1)
        if not taken:
            return None
        batch = ReadBatch(
            terms, _joined(taken), kind.member_id, self._settings.pause_ns, kind.search
        )
        kind.search = MasterSearch()
        kind.batches.append(batch)
        self._count(batch.reads, 1, kind)
        return batch

    @contextlib.contextmanager
    def _shrinking(self, kind: _Kind, terms: ReadTerms, queue: WaitingCommands) -> Iterator[None]:
        """Count what is taken out of a queue; one that is empty then goes."""
        reads, byte_count = queue.commands, queue.byte_count
        yield
        taken = reads - queue.commands
        kind.count -= taken
        self.held_reads -= taken
        self.held_bytes -= byte_count - queue.byte_count
        if not queue:
            del kind.waiting[terms]

    def _count(self, reads: PendingBatch, sign: int, kind: _Kind) -> None:
        kind.flying += sign * len(reads.commands)
        self.held_reads += sign * len(reads.commands)
        self.held_bytes += sign * reads.byte_count

    def _begin_try(self, batch: ReadBatch, now_ns: int, own_instance: int, asks: list[Ask]) -> None:
        settings, member_id = self._settings, batch.member_id
        if self._owes_too_much(member_id):
            name = self._names[member_id]
            batch.problem = ReadProblem(f"member {name} has not answered for long")
            batch.member_id = self._following(batch, batch.problem)
            batch.expires_ns = now_ns + settings.pause_max_ns
            return
        terms = batch.terms
        batch.expires_ns = now_ns + self._patience.limit_ns(member_id, settings.try_ns)
        batch.index = batch.ballot = batch.early = None
        at_least = own_instance if terms.at_least is None else terms.at_least
        consistency = terms.consistency
        batch.way = Way.ITSELF
        if consistency is Consistency.LINEARIZABLE and (batch.by_index or not self._has_lease):
            batch.way, consistency = Way.INDEX, Consistency.STALE
            index = ReadIndex(next(self._numbers))
            asks.append(self._ask(batch, RoleName.PROPOSER, index.request_id, index, now_ns))
        asks.append(self._ask_learner(batch, consistency, at_least, now_ns))

    def _owes_too_much(self, member_id: int) -> bool:
        owed = sum(ask.member_id == member_id for ask in self._asks.values())
        return owed >= self._settings.owed_calls_max

    def _ask_learner(
        self, batch: ReadBatch, consistency: Consistency, at_least: int, now_ns: int
    ) -> Ask:
        number, reads = next(self._numbers), batch.reads
        latest_ns = max(receiver.deadline_ns for receiver, _, _ in reads.receivers)
        # What this client does not wait for any more need not be executed.
        left_ns = min(latest_ns, batch.expires_ns) - now_ns
        query = QueryMany(
            number,
            batch.terms.machine,
            tuple(reads.commands),
            at_least,
            consistency,
            batch.terms.max_staleness_ms,
            max(1, left_ns // MILLISECOND_NS),
            self._settings.answer_bytes_max,
        )
        return self._ask(batch, RoleName.LEARNER, number, query, now_ns)

    def _ask(
        self, batch: ReadBatch, role: RoleName, number: int, message: Message, now_ns: int
    ) -> Ask:
        ask = Ask(number, batch.member_id, role, message, now_ns, batch)
        self._asks[number] = ask
        batch.asked.add(number)
        return ask

    # What came back.

    def on_answer(
        self, ask: Ask, answer: Message | ReadProblem, now_ns: int, outcomes: Outcomes
    ) -> list[Ask]:
        """Take in what became of a message; one of a try that is over is passed over.

        Args:
            ask: Which.
            answer: What the member said, or why it said nothing.
            now_ns: The client's clock.
            outcomes: Gets what became known.

        Returns:
            What has to be asked besides, now.
        """
        self._asks.pop(ask.number, None)
        if not isinstance(answer, ReadProblem):
            self._patience.answered(ask.member_id)
        batch = ask.batch
        if ask.number not in batch.asked:
            return []
        batch.asked.discard(ask.number)
        if batch.way is Way.ITSELF:
            return self._on_last_word(batch, answer, now_ns, outcomes)
        if isinstance(answer, ReadIndexConfirmed) and ask.role is RoleName.PROPOSER:
            batch.index, batch.ballot = answer.index, answer.ballot
        elif isinstance(answer, QueryAnswers | QueryFailed) and ask.role is RoleName.LEARNER:
            batch.early = answer
        else:
            problem = problem_of(self._names[ask.member_id], answer)
            return self._on_problem(batch, problem, now_ns, outcomes)
        if batch.index is None or batch.early is None:
            return []
        return self._at_index(batch, batch.index, batch.early, now_ns, outcomes)

    def _at_index(
        self,
        batch: ReadBatch,
        index: int,
        early: QueryAnswers | QueryFailed,
        now_ns: int,
        outcomes: Outcomes,
    ) -> list[Ask]:
        """The index and the learner's word are there; it counts where it is as of the index."""
        if early.applied_through < index and batch.way is Way.INDEX:
            batch.way, batch.early = Way.AT_INDEX, None
            at_least = max(index, batch.terms.at_least or 0)
            return [self._ask_learner(batch, Consistency.STALE, at_least, now_ns)]
        if early.applied_through < index:
            text = f"member {self._names[batch.member_id]} has not applied {index} yet"
            problem = ReadProblem(text, QueryProblem.BEHIND)
            return self._on_problem(batch, problem, now_ns, outcomes)
        if isinstance(early, QueryAnswers) and early.learned is not None:
            assert batch.ballot is not None, "it came with the index"
            if early.learned > batch.ballot:
                text = f"member {self._names[batch.member_id]} was deposed meanwhile"
                problem = ReadProblem(text, QueryProblem.NOT_MASTER)
                return self._on_problem(batch, problem, now_ns, outcomes)
        return self._on_last_word(batch, early, now_ns, outcomes)

    def _on_last_word(
        self, batch: ReadBatch, answer: Message | ReadProblem, now_ns: int, outcomes: Outcomes
    ) -> list[Ask]:
        if isinstance(answer, QueryAnswers) and 0 < len(answer.results) <= len(
            batch.reads.commands
        ):
            self._resolve(batch, answer, now_ns, outcomes)
            return []
        if isinstance(answer, QueryFailed) and answer.problem is QueryProblem.REFUSED:
            self._fail(batch, QueryError(answer.message), outcomes)
            return []
        problem = problem_of(self._names[batch.member_id], answer)
        return self._on_problem(batch, problem, now_ns, outcomes)

    def _resolve(
        self, batch: ReadBatch, answer: QueryAnswers, now_ns: int, outcomes: Outcomes
    ) -> None:
        kind = self._kinds[batch.terms.consistency]
        kind.member_id = batch.member_id
        notes = {
            position: Note(NoteCode.ERROR, why, 0, 0) for position, why in answer.refusals.items()
        }
        known, left = batch.reads.split(len(answer.results))
        assert known is not None, "there is an answer"
        outcomes.resolve(known, EntryResult(answer.applied_through, 0, answer.results, notes))
        self._count(batch.reads, -1, kind)
        if left is None:
            kind.batches.remove(batch)
            return
        batch.search.over()
        # What did not fit the reply is asked at once.
        batch.reads = left
        self._count(left, 1, kind)
        batch.expires_ns = now_ns

    def _on_problem(
        self, batch: ReadBatch, problem: ReadProblem, now_ns: int, outcomes: Outcomes
    ) -> list[Ask]:
        """A try came to nothing: go on by the index, elsewhere, or after a pause."""
        batch.asked.clear()
        batch.problem = more_telling(batch.problem, problem)
        member_id, consistency = batch.member_id, batch.terms.consistency
        is_other = problem.master not in (0, member_id)
        needs_index = problem.problem is QueryProblem.NO_LEASE and not is_other
        if consistency is Consistency.LINEARIZABLE and needs_index and not batch.by_index:
            batch.by_index = True
            batch.expires_ns = now_ns
            return []
        batch.by_index = False
        if problem.problem is QueryProblem.STOPPED:
            batch.stopped.add(member_id)
            if len(batch.stopped) == len(self._ids):
                error = QueryError(f"every member has stopped applying; {problem.text}")
                self._fail(batch, error, outcomes)
                return []
        kind = self._kinds[consistency]
        self._patience.meet(self._ids)
        batch.member_id = self._following(batch, problem)
        if kind.member_id == member_id:
            kind.member_id = batch.member_id
        batch.tries += 1
        batch.expires_ns = now_ns
        is_of_master = consistency >= Consistency.LEASE
        if not is_of_master or batch.member_id != problem.master or batch.tries > len(self._ids):
            # Also where members name each other: neither leads yet.
            batch.expires_ns += batch.pause_ns
            batch.pause_ns = min(2 * batch.pause_ns, self._settings.pause_max_ns)
        return []

    def _following(self, batch: ReadBatch, problem: ReadProblem) -> int:
        return following(batch.member_id, problem, self._patience, self._random, batch.search)

    def _fail(self, batch: ReadBatch, error: PaxosError, outcomes: Outcomes) -> None:
        outcomes.fail(batch.reads.receivers, error)
        self._end(batch)

    def _end(self, batch: ReadBatch) -> None:
        kind = self._kinds[batch.terms.consistency]
        kind.batches.remove(batch)
        self._count(batch.reads, -1, kind)
        batch.asked.clear()

    # Time.

    def due_ns(self) -> int | None:
        """When `on_deadline` and `next_asks` want to be called next; None for never."""
        if not self.held_reads:
            return None
        expires_ns = (batch.expires_ns for batch in self._all_batches())
        return min(self._looked_ns + self._settings.look_interval_ns, *expires_ns, FOREVER_NS)

    def _all_batches(self) -> Iterator[ReadBatch]:
        return (batch for kind in self._kinds.values() for batch in kind.batches)

    def on_deadline(self, now_ns: int, outcomes: Outcomes) -> None:
        """Give up on tries that took too long, and tell receivers whose time is over."""
        for batch in list(self._all_batches()):
            if batch.asked and now_ns >= batch.expires_ns:
                text = f"member {self._names[batch.member_id]} did not answer in time"
                self._on_problem(batch, ReadProblem(text), now_ns, outcomes)
        if now_ns < self._looked_ns + self._settings.look_interval_ns:
            return
        self._looked_ns = now_ns
        self._part_with_overdue(now_ns, None, outcomes)
        for number, ask in list(self._asks.items()):
            if now_ns < ask.sent_ns + self._settings.owed_ns:
                break
            del self._asks[number]

    def _part_with_overdue(self, now_ns: int, error: PaxosError | None, outcomes: Outcomes) -> None:
        for batch in list(self._all_batches()):
            told = [part for part, _ in batch.reads.tell_unknown(now_ns)]
            if told:
                outcomes.fail(told, error or late(batch.problem or _NO_TURN, "in time"))
            if all(receiver is NOBODY for receiver, _, _ in batch.reads.receivers):
                self._note_silence(batch)
                self._kinds[batch.terms.consistency].search = batch.search
                self._end(batch)
        for kind in self._kinds.values():
            for terms, queue in list(kind.waiting.items()):
                with self._shrinking(kind, terms, queue):
                    overdue = queue.drop_overdue(now_ns)
                outcomes.fail(overdue, error or late(_NO_TURN, "in time"))

    def _note_silence(self, batch: ReadBatch) -> None:
        """Nobody waits for a member's answer any more; what is asked next goes to another one."""
        kind = self._kinds[batch.terms.consistency]
        if batch.asked:
            self._patience.gave_no_answer(batch.member_id)
            if kind.member_id == batch.member_id:
                kind.member_id = self._patience.next_after(batch.member_id)

    def give_up(self, error: PaxosError, outcomes: Outcomes) -> None:
        """Tell everyone this, and forget everything, as the client closes."""
        self._part_with_overdue(FOREVER_NS, error, outcomes)
        self._asks.clear()


def _joined(taken: list[PendingBatch]) -> PendingBatch:
    """One batch of all that go together."""
    first = taken[0]
    for other in taken[1:]:
        first.commands += other.commands
        first.receivers += other.receivers
        first.byte_count += other.byte_count
        first.earliest_ns = min(first.earliest_ns, other.earliest_ns)
    return first
