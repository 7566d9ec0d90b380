"""Queries that wait, on their way: a learner's shell without Ray or a disk, and the line to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from ray_paxos.actors import learner_shell, line_exchange, mailbox
from ray_paxos.actors.answers import RolePhase, state_of
from ray_paxos.actors.errands import Errand
from ray_paxos.actors.learner_shell import HELD_S, LearnerShell
from ray_paxos.actors.line_answers import decode_answers
from ray_paxos.actors.log_actors import LearnerActor
from ray_paxos.actors.member import MemberActor
from ray_paxos.actors.proposer_shell import ProposerShell
from ray_paxos.actors.role_actors import EXCHANGES
from ray_paxos.actors.role_line import CALL_TIMEOUT_S, QUERY_OWED_S, RoleLine
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryMany,
    QueryProblem,
    QueryResult,
)
from ray_paxos.core.client_waits import ANSWER_NS, HOLD_MS
from ray_paxos.core.driver import Driver, Transmit
from ray_paxos.core.held_queries import WAIT_MS_MAX
from ray_paxos.core.messages import Envelope, Message, RoleName
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.wire import encode_envelopes
from tests.unit.core_helpers import GROUP, client, envelope, learner_of, submit
from tests.unit.line_bench import LINE, Exchange, Harness, Proposers, Writer
from tests.unit.played_proposer import PATIENCE_S, PlayedDriver

NOTHING = encode_envelopes(())


def query(request_id: int) -> Query:
    return Query(request_id, "kv", b"a", 0, timeout_ms=5_000, wait_ms=5_000)


class PlayedLearner(LearnerShell):
    """The shell, whose role answers when the test says so, and calls that run in threads."""

    def __init__(self) -> None:
        super().__init__(b"", "m1", Switchboard())
        self.driver = PlayedDriver()
        opened: Any = SimpleNamespace(driver=self.driver, role=GroupRouter({}), store=None)
        opened.role.roles[GROUP] = SimpleNamespace()
        self._opened: Any = opened
        self._started(opened)
        self.threads = ThreadPoolExecutor(8)

    def end(self) -> None:
        self.threads.shutdown()
        self._end()
        self.background.close()

    def call(self, *messages: Message, at: int = 900, line: int = 1) -> Future[list[Envelope]]:
        """One call of a line, with these of one client; what it is answered."""
        batch = encode_envelopes([envelope(client(at), message) for message in messages])
        return self.call_with(batch, line)

    def call_with(self, batch: bytes, line: int = 1) -> Future[list[Envelope]]:
        def run() -> list[Envelope]:
            answers = decode_answers(self.exchange_queries(line, batch))
            return [reply for _, _, reply in answers]

        return self.threads.submit(run)

    def wait_for_queries(self, count: int) -> None:
        """Until the role holds so many."""
        self.wait_until(lambda: len(self.driver.received) >= count)

    def wait_until_waiting(self, line: int = 1) -> None:
        """Until a call of the line waits for answers."""
        waiting = self._exchange._lines.of(line, time.monotonic())[0]._waiting
        self.wait_until(lambda: bool(waiting))

    def wait_until(self, is_so: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def answer(self, *request_ids: int, at: int = 900) -> None:
        """Something has happened: these are answered in one turn."""
        answers = [
            Transmit(client(at), envelope(learner_of(1), QueryResult(number, 7, b"A")))
            for number in request_ids
        ]

        def arrival(driver: Driver, now_ns: int) -> list[Any]:
            return list(answers)

        self._handle(self._opened, [arrival], Errand())


@pytest.fixture
def played() -> Iterator[PlayedLearner]:
    shell = PlayedLearner()
    yield shell
    shell.end()


def numbers(call: Future[list[Envelope]]) -> list[int]:
    """The queries that a call has brought answers to."""
    found = []
    for reply in call.result(PATIENCE_S):
        assert isinstance(reply.message, QueryResult | QueryFailed)
        found.append(reply.message.request_id)
    return found


# The shell.


def test_a_query_waits_in_its_call_until_something_happens(played: PlayedLearner) -> None:
    call = played.call(query(7))
    played.wait_for_queries(1)
    played.wait_until_waiting()
    assert not call.done()
    assert [each.message for each in played.driver.received] == [query(7)]
    assert not played._turn.locked(), "nobody waits for the turn meanwhile"
    played.answer(7)
    (reply,) = call.result(PATIENCE_S)
    assert reply.message == QueryResult(7, 7, b"A")


def test_what_happens_at_once_leaves_together(played: PlayedLearner) -> None:
    call = played.call(query(7), query(8), query(9))
    played.wait_for_queries(3)
    played.wait_until_waiting()
    played.answer(9, 7)
    assert numbers(call) == [9, 7]
    again = played.call()
    played.wait_until_waiting()
    played.answer(8)
    assert numbers(again) == [8]


def test_a_query_outlasts_the_call_that_brought_it(
    played: PlayedLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.02)
    assert numbers(played.call(query(7))) == [], "nothing in time"
    assert numbers(played.call()) == []
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 10.0)
    call = played.call()
    played.wait_until_waiting()
    played.answer(7)
    assert numbers(call) == [7]


def test_a_query_that_nobody_can_be_waiting_for_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learner_shell, "HELD_S", 0.01)
    monkeypatch.setattr(line_exchange, "REPLY_TIMEOUT_S", 0.02)
    played = PlayedLearner()
    try:
        assert numbers(played.call(query(7))) == []
        assert len(played._exchange._calls) == 1
        assert numbers(played.call()) == []
        assert len(played._exchange._calls) == 0
    finally:
        played.end()


def test_equal_numbers_of_two_clients_are_two_queries(played: PlayedLearner) -> None:
    asked = [envelope(client(at), query(7)) for at in (901, 902)]
    call = played.call_with(encode_envelopes(asked))
    played.wait_for_queries(2)
    played.wait_until_waiting()
    played.answer(7, at=902)
    assert len(call.result(PATIENCE_S)) == 1
    played.answer(7, at=901)
    ((at, _, _),) = decode_answers(played.exchange_queries(1, NOTHING))
    assert at == 901


def test_a_query_of_a_group_that_is_not_here_is_refused_at_once(played: PlayedLearner) -> None:
    waiting = played.call(query(7))
    played.wait_for_queries(1)
    played.wait_until_waiting()
    batch = encode_envelopes([envelope(client(901), query(8), group=GROUP + 1)])
    ((at, _, reply),) = decode_answers(played.exchange_queries(1, batch))
    assert at == 901
    assert isinstance(reply.message, QueryFailed)
    assert (reply.message.request_id, reply.message.problem) == (8, QueryProblem.NO_GROUP)
    assert reply.group == GROUP + 1
    assert len(played.driver.received) == 1
    assert not waiting.done()
    played.answer(7)
    assert numbers(waiting) == [7]


def test_what_is_no_query_is_not_taken_in(played: PlayedLearner) -> None:
    many = QueryMany(8, "kv", (b"a",), 0, Consistency.STALE, None, 0, 1_000)
    call = played.call(submit(7), many, query(9))
    played.wait_for_queries(1)
    assert [each.message for each in played.driver.received] == [query(9)]
    played.answer(9)
    assert numbers(call) == [9]


def test_a_role_that_does_not_serve_says_so_and_takes_nothing_in(played: PlayedLearner) -> None:
    played.stop("a disk is broken", "StorageError")
    batch = encode_envelopes([envelope(client(), query(7))])
    state = state_of(played.exchange_queries(1, batch))
    assert state is not None
    assert (state.phase, state.reason) == (RolePhase.STOPPED, "a disk is broken")
    assert not played.driver.received


def test_a_query_that_may_wait_is_not_too_late_where_reads_wait_long(
    played: PlayedLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its own time begins when it is taken in.
    played.measure_by(lambda: None)
    monkeypatch.setattr(played._call_delay, "look", lambda now_ns: 60_000_000_000)
    call = played.call(query(7))
    played.wait_for_queries(1)
    played.answer(7)
    assert numbers(call) == [7]


def test_whoever_holds_a_query_has_time_to_answer_it() -> None:
    """Each that waits for another one's answer waits longer than that one takes."""
    assert HOLD_MS <= WAIT_MS_MAX
    client_waits_s = HOLD_MS / 1_000 + ANSWER_NS / 1e9
    assert WAIT_MS_MAX / 1_000 < client_waits_s < HELD_S < QUERY_OWED_S
    assert line_exchange.REPLY_TIMEOUT_S < CALL_TIMEOUT_S
    # Else the mailbox of a line that only waits would be given up.
    assert CALL_TIMEOUT_S < mailbox.LINE_IDLE_S


def test_the_actors_have_what_a_line_calls() -> None:
    assert EXCHANGES[RoleName.LEARNER] == LearnerShell.exchange_queries.__name__
    assert EXCHANGES[RoleName.PROPOSER] == ProposerShell.exchange.__name__
    for actor in (LearnerActor, MemberActor):
        assert hasattr(actor, EXCHANGES[RoleName.LEARNER])


# The line to a learner.


class Learners(Proposers):
    """Stands for the learners' actors."""

    def find(self, member_id: int, role: RoleName) -> Any:
        assert role is RoleName.LEARNER
        return super().find(member_id, RoleName.PROPOSER)

    def exchange(self, proposer: Any, role: RoleName, line: int, batch: bytes) -> Any:
        assert role is RoleName.LEARNER
        return super().exchange(proposer, RoleName.PROPOSER, line, batch)


class QueryLine(Harness):
    """A line to a learner; what it carries means nothing to it."""

    def __init__(self) -> None:
        super().__init__()
        self.proposers = Learners()
        self.line = RoleLine(
            1,
            RoleName.LEARNER,
            LINE,
            actors=self.proposers,
            lookup=self.lookup,
            post=self._events.append,
            clock=lambda: self.now,
            call_bytes_max=100_000,
        )
        self.one, self.two = (Writer(self.line, client_id) for client_id in (1, 2))


def test_a_query_is_owed_while_calls_come_back_with_nothing() -> None:
    line = QueryLine()
    exchange = line.send(7)
    for _ in range(6):
        line.now += 10.0
        exchange.answers()
        (exchange,) = line.turn()
        assert exchange.carried == [], "it is there already"
    assert line.one.told == []
    exchange.answers((1, 7))
    assert line.turn() == []
    assert line.one.heard == [("answered", 7)]


def test_a_query_that_is_never_answered_is_lost_in_the_end() -> None:
    line = QueryLine()
    exchange = line.send(7)
    passed = 0.0
    while passed + 10.0 < QUERY_OWED_S:
        passed += 10.0
        line.now += 10.0
        exchange.answers()
        (exchange,) = line.turn()
    assert line.one.told == []
    line.time_passes(QUERY_OWED_S - passed)
    assert line.one.heard == [("lost", 7)]


def test_a_learner_that_answers_no_call_loses_all_that_it_holds() -> None:
    # A process that stands still: others hold queries as well.
    line = QueryLine()
    line.send(7)
    line.one.put(8)
    line.two.put(9)
    line.turn()
    line.time_passes(CALL_TIMEOUT_S - 0.1)
    assert line.one.told == line.two.told == []
    line.time_passes(0.2)
    assert (line.one.heard, line.two.heard) == ([("lost", 7), ("lost", 8)], [("lost", 9)])
    assert set(line.one.whys) == {"a member does not answer"}


def test_a_proposer_that_answers_no_call_has_time_still() -> None:
    line = Harness()
    line.send(7)
    line.now += 1.0
    line.one.put(8)
    line.turn()
    line.time_passes(CALL_TIMEOUT_S - 1.0)
    assert ("lost", 8) not in line.one.heard, "commands are sent again sooner anyway"


def test_a_call_to_an_earlier_learner_says_nothing_of_the_next_one() -> None:
    line = QueryLine()
    line.send(7)
    first: Exchange = line.proposers.exchanges[0]
    line.line.note_failure(ActorDiedError(), first.handle)
    assert line.one.heard == [("lost", 7)]
    line.now += CALL_TIMEOUT_S - 1.0
    second = line.send(8)
    assert second.handle != first.handle
    line.time_passes(1.0)
    assert line.one.heard == [("lost", 7)], "only the first call has taken too long"
