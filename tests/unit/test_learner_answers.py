"""A learner's answers to queries that wait: when they come, and that nobody is asked in vain."""

from __future__ import annotations

import pytest

from ray_paxos.core import held_queries
from ray_paxos.core.checkpoint_messages import CheckpointReady
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryProblem,
    QueryResult,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.held_queries import TURN_PAUSE_NS
from ray_paxos.core.learner_answers import OUT_OF_TOUCH_NS
from ray_paxos.core.messages import Address, HeardFrom, Heartbeat
from ray_paxos.core.results import EntryResult
from ray_paxos.core.tasks import CheckpointLoaded
from ray_paxos.core.values import MasterRecord, MembershipEntry, MembershipKind, Value
from ray_paxos.core.wire import encode_envelopes
from ray_paxos.errors import NotYetError, QueryError
from tests.unit.core_helpers import (
    MS,
    POINT,
    ballot,
    checkpointer_of,
    chosen,
    client,
    envelope,
    learner_of,
    proposer_of,
    sends,
    sent,
    value,
)
from tests.unit.learner_bench import ME, SETTINGS, LearnerBench, ScriptedHost, cut_at

MASTER = 3
"""Whom the log names."""


class WaitingHost(ScriptedHost):
    """Answers a query once an instance is applied; that notifies, or not, what the query waits for.

    Attributes:
        since: From which instance on each request has an answer.
        notifies: Topics, by instance; that of a request is the request.
        asked: All requests so far.
    """

    def __init__(self, *, fails_at: int = 0, applied_through: int = 0) -> None:
        super().__init__(fails_at=fails_at, applied_through=applied_through)
        self.since: dict[bytes, int] = {}
        self.notifies: dict[int, list[str]] = {}
        self.asked: list[bytes] = []

    def apply(self, instance_id: int, value: Value) -> tuple[EntryResult, ...]:
        self.topics = {("log", topic) for topic in self.notifies.get(instance_id, [])}
        return super().apply(instance_id, value)

    def query(self, machine: str, request: bytes) -> bytes:
        self.asked.append(request)
        if request == b"bad":
            raise QueryError("malformed")
        if request == b"half a character":
            raise QueryError("\ud800")
        if self.through < self.since.get(request, 10**9):
            raise NotYetError(request.decode(), f"{request.decode()} has not happened")
        return request.upper()

    def script(self, instance_id: int, *requests: bytes) -> None:
        """Each of these has an answer from there on, and its topic is notified there."""
        self.since.update(dict.fromkeys(requests, instance_id))
        self.notifies[instance_id] = [request.decode() for request in requests]


class Waiting:
    """A learner that has applied ten instances, and those who ask it."""

    def __init__(self, *, fails_at: int = 0) -> None:
        self.host = WaitingHost(fails_at=fails_at)
        self.bench = LearnerBench(host=self.host)
        self.bench.told(chosen(1, encoded=value(MasterRecord(ballot(1, MASTER)))))
        self.bench.learns(2, 10)

    @property
    def held(self) -> int:
        return len(self.bench.learner._answers._held)

    def wait(
        self,
        request: bytes,
        number: int = 7,
        *,
        of: Address | None = None,
        at_least: int = 0,
        wait_ms: int = 500,
        consistency: Consistency = Consistency.STALE,
    ) -> Effects:
        query = Query(number, "log", request, at_least, consistency, wait_ms=wait_ms)
        effects = self.bench.receive(of or client(), query)
        deadline_ns = self.bench.learner.deadline_ns
        assert not self.held or deadline_ns is not None
        return effects

    def asked(self) -> list[bytes]:
        """What the machine was asked since this was last called."""
        asked, self.host.asked = self.host.asked, []
        return asked


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def answers(effects: Effects) -> list[tuple[int, int, bytes]]:
    """(client, number, result)."""
    return [
        (send.to.member_id, send.message.request_id, send.message.result)
        for send in sends(effects)
        if isinstance(send.message, QueryResult)
    ]


def problem(effects: Effects) -> QueryProblem:
    (failed,) = sent(effects, QueryFailed)
    assert failed.message
    return failed.problem


def none_left(waiting: Waiting) -> None:
    """Nothing is held, and nobody collects what nobody waits for."""
    assert waiting.held == 0
    assert not waiting.bench.learner._state.applying.keeps_topics
    assert not waiting.bench.learner._state.applying.topics
    assert waiting.bench.learner._answers.due_ns is None


# Until something happens.


def test_a_query_that_has_an_answer_waits_for_nothing(waiting: Waiting) -> None:
    waiting.host.script(10, b"a")
    effects = waiting.wait(b"a")
    assert sent(effects, QueryResult) == [QueryResult(7, 10, b"A", ballot(1))]
    none_left(waiting)


def test_a_query_is_answered_by_the_very_apply_that_notifies_its_topic(waiting: Waiting) -> None:
    waiting.host.script(12, b"a")
    assert sends(waiting.wait(b"a")) == []
    assert answers(waiting.bench.learns(11, 11)) == []
    effects = waiting.bench.learns(12, 12)
    assert sent(effects, QueryResult) == [QueryResult(7, 12, b"A", ballot(1))]
    none_left(waiting)
    assert answers(waiting.bench.learns(13, 14)) == [], "once"


def test_what_is_applied_together_is_asked_for_once_and_as_of_its_end(waiting: Waiting) -> None:
    waiting.host.script(12, b"a")
    waiting.host.notifies[11] = ["a"]
    waiting.wait(b"a")
    waiting.asked()
    (result,) = sent(waiting.bench.learns(11, 14), QueryResult)
    assert result.applied_through == 14
    assert waiting.asked() == [b"a"]


def test_nobody_is_asked_again_for_what_happens_to_others(waiting: Waiting) -> None:
    waiting.host.script(12, b"a")
    waiting.host.notifies[11] = ["c", "d"]
    for number, request in enumerate((b"a", b"b", b"b")):
        waiting.wait(request, number)
    assert waiting.asked() == [b"a", b"b", b"b"]
    waiting.bench.learns(11, 11)
    waiting.bench.tick(100)
    waiting.bench.beat(through=11)
    assert waiting.asked() == []
    assert answers(waiting.bench.learns(12, 12)) == [(900, 0, b"A")]
    assert waiting.asked() == [b"a"]
    assert waiting.held == 2


def test_all_that_wait_for_one_thing_are_answered_in_their_order(waiting: Waiting) -> None:
    waiting.host.script(11, b"a")
    for of in (903, 901, 902):
        waiting.wait(b"a", of=client(of))
    assert answers(waiting.bench.learns(11, 11)) == [
        (903, 7, b"A"),
        (901, 7, b"A"),
        (902, 7, b"A"),
    ]


def test_one_that_is_notified_in_vain_waits_on(waiting: Waiting) -> None:
    waiting.host.script(12, b"a")
    waiting.host.notifies[11] = ["a"]
    waiting.wait(b"a")
    waiting.asked()
    waiting.bench.learns(11, 11)
    assert (waiting.asked(), waiting.held) == ([b"a"], 1)
    assert answers(waiting.bench.learns(12, 12)) == [(900, 7, b"A")]


def test_one_that_was_asked_again_may_be_refused(waiting: Waiting) -> None:
    waiting.wait(b"a")
    waiting.host.notifies[11] = ["a"]
    waiting.host.query = lambda *_: raise_(QueryError("gone for good"))  # type: ignore[method-assign]
    (failed,) = sent(waiting.bench.learns(11, 11), QueryFailed)
    assert (failed.problem, failed.message) == (QueryProblem.REFUSED, "gone for good")
    none_left(waiting)


def raise_(error: Exception) -> bytes:
    raise error


def test_topics_are_kept_only_while_something_is_held(waiting: Waiting) -> None:
    waiting.host.script(12, b"a")
    waiting.host.notifies[11] = ["a", "b"]
    applying = waiting.bench.learner._state.applying
    waiting.bench.learns(11, 11)
    assert (applying.keeps_topics, applying.topics) == (False, set())
    waiting.wait(b"a")
    assert applying.keeps_topics
    waiting.bench.learns(12, 12)
    none_left(waiting)


def test_what_happened_before_a_query_came_says_nothing_of_it(waiting: Waiting) -> None:
    waiting.host.notifies[11] = ["b"]
    waiting.wait(b"a")
    waiting.bench.learns(11, 11)
    assert not waiting.bench.learner._state.applying.topics
    waiting.wait(b"b", 8)
    waiting.asked()
    waiting.bench.learns(12, 12)
    assert waiting.asked() == []


def test_many_are_answered_in_turns(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_queries, "TURN_MAX", 2)
    waiting.host.script(11, b"a")
    for number in range(5):
        waiting.wait(b"a", number)
    assert [number for _, number, _ in answers(waiting.bench.learns(11, 11))] == [0, 1]
    assert waiting.bench.learner.deadline_ns == TURN_PAUSE_NS
    assert answers(waiting.bench.learns(12, 12)) == [], "others come first"
    assert [n for _, n, _ in answers(waiting.bench.tick(TURN_PAUSE_NS / MS))] == [2, 3]
    assert [n for _, n, _ in answers(waiting.bench.tick(TURN_PAUSE_NS / MS))] == [4]
    none_left(waiting)


# Until enough is applied.


def test_one_that_is_behind_waits_until_so_much_is_applied(waiting: Waiting) -> None:
    waiting.host.script(3, b"a")
    assert sends(waiting.wait(b"a", at_least=12)) == []
    assert answers(waiting.bench.learns(11, 11)) == []
    assert waiting.asked() == [], "the state is too old to be asked"
    (result,) = sent(waiting.bench.learns(12, 12), QueryResult)
    assert (result.applied_through, result.result) == (12, b"A")
    none_left(waiting)


def test_one_that_was_behind_may_then_wait_for_something(waiting: Waiting) -> None:
    waiting.host.script(13, b"a")
    waiting.wait(b"a", at_least=11)
    assert answers(waiting.bench.learns(11, 11)) == []
    assert answers(waiting.bench.learns(12, 12)) == []
    assert waiting.asked() == [b"a"]
    assert answers(waiting.bench.learns(13, 13)) == [(900, 7, b"A")]


def test_one_that_does_not_wait_is_told_that_it_is_behind(waiting: Waiting) -> None:
    assert problem(waiting.wait(b"a", at_least=12, wait_ms=0)) is QueryProblem.BEHIND
    many = QueryMany(8, "log", (b"a",), 12, Consistency.STALE, None, 0, 1_000)
    assert problem(waiting.bench.receive(client(), many)) is QueryProblem.BEHIND
    none_left(waiting)


# Ends.


def test_a_wait_that_is_over_is_told_and_names_the_master(waiting: Waiting) -> None:
    waiting.wait(b"a", wait_ms=500)
    waiting.wait(b"b", 8, at_least=50, wait_ms=400)
    assert waiting.bench.learner._answers.due_ns == 400 * MS
    assert sent(waiting.bench.tick(399), QueryFailed) == []
    (failed,) = sent(waiting.bench.tick(1), QueryFailed)
    assert failed == QueryFailed(
        8, 10, "there is no answer yet", QueryProblem.NOT_YET, master=MASTER
    )
    (failed,) = sent(waiting.bench.tick(100), QueryFailed)
    assert (failed.request_id, failed.problem) == (7, QueryProblem.NOT_YET)
    none_left(waiting)
    waiting.host.script(11, b"a")
    assert answers(waiting.bench.learns(11, 11)) == [], "it was answered once"


def test_an_answer_that_comes_as_the_wait_ends_is_the_answer(waiting: Waiting) -> None:
    waiting.host.script(11, b"a")
    waiting.wait(b"a", wait_ms=500)
    waiting.bench.now_ns = 500 * MS
    effects = waiting.bench.learns(11, 11)
    assert answers(effects) == [(900, 7, b"A")]
    assert sent(effects, QueryFailed) == []


def test_more_than_there_is_room_for_are_refused_at_once(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_queries, "HELD_MAX", 2)
    waiting.host.script(10, b"c")
    waiting.wait(b"a", 1)
    waiting.wait(b"a", 2)
    (failed,) = sent(waiting.wait(b"a", 3), QueryFailed)
    assert (failed.request_id, failed.problem) == (3, QueryProblem.OVERLOADED)
    assert failed.master == MASTER
    assert answers(waiting.wait(b"c", 4)) == [(900, 4, b"C")], "which waits for nothing"
    assert waiting.held == 2


def test_a_query_that_does_not_wait_gets_what_is_missing_for_an_answer(waiting: Waiting) -> None:
    (failed,) = sent(waiting.wait(b"a", wait_ms=0), QueryFailed)
    assert (failed.problem, failed.message) == (QueryProblem.REFUSED, "a has not happened")
    many = QueryMany(8, "log", (b"a", b"a"), 0, Consistency.STALE, None, 0, 1_000)
    (several,) = sent(waiting.bench.receive(client(), many), QueryAnswers)
    assert several.refusals == dict.fromkeys((0, 1), "a has not happened")
    none_left(waiting)


def test_what_is_refused_does_not_wait(waiting: Waiting) -> None:
    assert problem(waiting.wait(b"bad")) is QueryProblem.REFUSED
    effects = waiting.wait(b"a", consistency=Consistency.LEASE)
    assert problem(effects) is QueryProblem.NO_LEASE, "others have one"
    none_left(waiting)


def test_where_applying_stops_all_that_wait_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_queries, "TURN_MAX", 2)
    waiting = Waiting(fails_at=11)
    for number, request in enumerate((b"a", b"b", b"c")):
        waiting.wait(request, number, at_least=20 if request == b"b" else 0)
    failures = sent(waiting.bench.learns(11, 11), QueryFailed)
    failures += sent(waiting.bench.tick(TURN_PAUSE_NS / MS), QueryFailed)
    assert [each.request_id for each in failures] == [0, 1, 2]
    assert {each.problem for each in failures} == {QueryProblem.STOPPED}
    none_left(waiting)
    assert problem(waiting.wait(b"a")) is QueryProblem.STOPPED, "nothing will happen here"
    none_left(waiting)


def test_who_asks_again_is_answered_once(waiting: Waiting) -> None:
    waiting.host.script(11, b"a")
    for _ in range(3):
        waiting.wait(b"a")
    assert waiting.held == 1
    assert answers(waiting.bench.learns(11, 11)) == [(900, 7, b"A")]


# Another state.


def installs(waiting: Waiting, host: WaitingHost, instance_id: int) -> Effects:
    """The learner, which is far behind, goes on from another member's checkpoint."""
    bench = waiting.bench
    bench.beat(through=60)
    bench.gives(first=11, learned=60, memory_floor=55, log_floor=instance_id + 1)
    bench.gives(first=11, learned=60, log_floor=instance_id + 1, of=checkpointer_of(1))
    bench.receive(checkpointer_of(ME), CheckpointReady(instance_id))
    return bench.comes_to(CheckpointLoaded(cut_at(instance_id), host))


def test_a_state_that_is_replaced_is_asked_by_all(waiting: Waiting) -> None:
    loaded = WaitingHost(applied_through=40)
    loaded.script(20, b"a")
    waiting.wait(b"a", 1)
    waiting.wait(b"b", 2)
    waiting.wait(b"a", 3, at_least=40)
    waiting.wait(b"a", 4, at_least=41)
    waiting.asked()
    effects = installs(waiting, loaded, 40)
    assert answers(effects) == [(900, 1, b"A"), (900, 3, b"A")], "nobody notifies it here"
    assert loaded.asked == [b"a", b"b", b"a"]
    assert waiting.held == 2
    loaded.script(41, b"b")
    assert sorted(answers(waiting.bench.learns(41, 41))) == [(900, 2, b"B"), (900, 4, b"A")]
    assert waiting.asked() == []
    none_left(waiting)


def test_a_wait_costs_no_turn_until_it_ends(waiting: Waiting) -> None:
    waiting.bench.tick(SETTINGS.seal_age_ns / MS)
    waiting.bench.sync()
    before = waiting.bench.learner.deadline_ns
    waiting.wait(b"a", wait_ms=4_000)
    ends_ns = waiting.bench.now_ns + 4_000 * MS
    assert waiting.bench.learner.deadline_ns == min(before or ends_ns, ends_ns)


# In touch with the group, or not.


def hears(waiting: Waiting, sequence: int, sent_ns: int) -> Effects:
    """The master has had the status sent then, and its round before was confirmed."""
    heard = HeardFrom(1, sent_ns)
    heartbeat = Heartbeat(ballot(1), sequence, True, 10, 0, POINT, sequence - 1, 0, heard)
    return waiting.bench.receive(proposer_of(1), heartbeat)


def test_a_learner_that_hears_of_its_group_holds_on_and_asks_nobody(waiting: Waiting) -> None:
    bench = waiting.bench
    waiting.wait(b"a", wait_ms=60_000)
    waiting.asked()
    for sequence in range(1, 50):
        hears(waiting, sequence, bench.now_ns)
        assert sent(bench.tick(1_000), QueryFailed) == []
        bench.sync()
    assert waiting.asked() == []
    assert waiting.held == 1
    waiting.host.script(11, b"a")
    assert answers(bench.learns(11, 11)) == [(900, 7, b"A")]


def test_a_learner_that_hears_of_nothing_gives_all_up(waiting: Waiting) -> None:
    waiting.wait(b"a", 1, wait_ms=60_000)
    waiting.bench.tick(1_000)
    waiting.wait(b"b", 2, wait_ms=60_000, at_least=20)
    assert waiting.bench.learner._answers.due_ns == OUT_OF_TOUCH_NS
    assert sent(waiting.bench.tick(OUT_OF_TOUCH_NS / MS - 1_001), QueryFailed) == []
    assert waiting.held == 2
    failures = sent(waiting.bench.tick(1), QueryFailed)
    assert [(each.request_id, each.problem) for each in failures] == [
        (1, QueryProblem.STALE),
        (2, QueryProblem.STALE),
    ]
    assert {each.master for each in failures} == {MASTER}
    none_left(waiting)


def test_it_counts_from_when_its_state_was_fresh(waiting: Waiting) -> None:
    bench = waiting.bench
    bench.now_ns = 100 * MS
    waiting.wait(b"a", wait_ms=60_000)
    bench.now_ns = 2_000 * MS
    hears(waiting, 1, 1_500 * MS)
    hears(waiting, 2, 1_500 * MS)
    bench.tick((OUT_OF_TOUCH_NS + 100 * MS - bench.now_ns) / MS)
    assert waiting.held == 1
    assert bench.learner._answers.due_ns == OUT_OF_TOUCH_NS + 1_500 * MS
    bench.tick(1_399)
    assert waiting.held == 1
    (failed,) = sent(bench.tick(1), QueryFailed)
    assert (failed.problem, failed.message) == (
        QueryProblem.STALE,
        "this member hears nothing of its group",
    )


def test_who_asks_later_has_as_much_time_as_who_asked_first(waiting: Waiting) -> None:
    waiting.wait(b"a")
    waiting.bench.tick(500)
    none_left(waiting)
    waiting.bench.tick(60_000)
    waiting.wait(b"a", wait_ms=60_000)
    assert sent(waiting.bench.tick(OUT_OF_TOUCH_NS / MS - 1), QueryFailed) == []
    assert len(sent(waiting.bench.tick(1), QueryFailed)) == 1


def test_a_member_that_leaves_the_group_gives_all_up_at_once(waiting: Waiting) -> None:
    waiting.wait(b"a", 1)
    waiting.wait(b"b", 2, at_least=50)
    for instance_id, kind, config_id in (
        (11, MembershipKind.DEMOTE, 0),
        (12, MembershipKind.REMOVE, 11),
    ):
        assert waiting.held == 2
        encoded = value(MembershipEntry(kind, ME, config_id))
        effects = waiting.bench.told(chosen(instance_id, encoded=encoded))
    assert [(each.request_id, each.problem) for each in sent(effects, QueryFailed)] == [
        (1, QueryProblem.NO_GROUP),
        (2, QueryProblem.NO_GROUP),
    ]
    none_left(waiting)


def test_what_is_applied_as_it_gives_up_is_answered(waiting: Waiting) -> None:
    waiting.host.script(11, b"a")
    waiting.wait(b"a", 1, wait_ms=60_000)
    waiting.wait(b"b", 2, wait_ms=60_000)
    waiting.bench.now_ns = OUT_OF_TOUCH_NS
    effects = waiting.bench.learns(11, 11)
    assert answers(effects) == [(900, 1, b"A")]
    assert [each.request_id for each in sent(effects, QueryFailed)] == [2]


def test_a_refusal_that_no_message_can_carry_is_told_all_the_same() -> None:
    # It would cost all answers that go by the same call.
    (failed,) = sent(Waiting().wait(b"half a character"), QueryFailed)
    assert failed.problem is QueryProblem.REFUSED
    encode_envelopes([envelope(learner_of(ME), failed)])
