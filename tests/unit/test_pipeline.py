"""The pipeline: votes count once, values are kept until durable, no request is lost or doubled."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.intake import Request
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.pipeline import Pipeline
from tests.unit.core_helpers import CONFIGURATION, MS, ballot, client, commands

AT = ballot(4)


def pipeline(learned_through: int = 10) -> Pipeline:
    return Pipeline(AT, CONFIGURATION, learned_through)


def request(request_id: int) -> Request:
    return Request(client(), request_id, (commands(),), 10)


def start(pipe: Pipeline, count: int = 1, *, now_ns: int = 0) -> list[int]:
    """Open instances with one request each, named after the instance."""
    opened = []
    for _ in range(count):
        instance_id = pipe.next_instance
        pipe.start(b"value %d" % instance_id, (request(instance_id),), now_ns)
        opened.append(instance_id)
    return opened


def choose(pipe: Pipeline, instance_id: int) -> ChosenValue | None:
    pipe.count(instance_id, 11, 0)
    return pipe.count(instance_id, 12, 0)


def ids(requests: list[Request]) -> list[int]:
    return [request.request_id for request in requests]


def test_instances_are_opened_in_order_above_what_is_learned() -> None:
    pipe = pipeline(10)
    assert start(pipe, 3) == [11, 12, 13]
    assert list(pipe.open) == [11, 12, 13]
    assert pipe.chosen_through == 10


def test_a_majority_chooses_once_and_a_voter_counts_once() -> None:
    pipe = pipeline()
    start(pipe)
    for _ in range(3):
        assert pipe.count(11, 12, 0) is None
    assert pipe.count(11, 13, 0) == ChosenValue(11, AT, b"value 11")
    assert pipe.count(11, 11, 0) is None, "the third vote chooses nothing again"
    assert pipe.open == {}


@pytest.mark.parametrize("instance_id", [0, 10, 12, 99])
def test_a_vote_for_what_is_not_open_counts_for_nothing(instance_id: int) -> None:
    pipe = pipeline()
    start(pipe)
    assert pipe.count(instance_id, 11, 0) is None
    assert pipe.count(instance_id, 12, 0) is None
    assert list(pipe.open) == [11]
    assert pipe.retained == {}


def test_chosen_through_is_the_contiguous_prefix() -> None:
    pipe = pipeline()
    start(pipe, 4)
    choose(pipe, 12)
    choose(pipe, 14)
    assert pipe.chosen_through == 10
    choose(pipe, 11)
    assert pipe.chosen_through == 12
    choose(pipe, 13)
    assert pipe.chosen_through == 14


def test_a_value_is_kept_until_the_own_learner_has_it_durably() -> None:
    pipe = pipeline()
    start(pipe, 4)
    for instance_id in (11, 12, 14):
        choose(pipe, instance_id)
    assert pipe.retained_bytes == 3 * len(b"value 11")
    pipe.release_durable(11)
    assert list(pipe.retained) == [12, 14]
    pipe.release_durable(99)
    assert list(pipe.retained) == [14], "what lies above a hole stays, whatever is reported"
    assert pipe.retained_bytes == len(b"value 14")
    choose(pipe, 13)
    assert pipe.chosen_through == 14
    pipe.release_durable(14)
    assert (pipe.retained_bytes, len(pipe.retained)) == (0, 0)


def test_what_is_kept_is_given_in_order_within_bounds() -> None:
    pipe = pipeline()
    start(pipe, 4)
    for instance_id in (13, 11, 12):
        choose(pipe, instance_id)
    assert [c.instance_id for c in pipe.retained_from(1, 1_000)] == [11, 12, 13]
    assert [c.instance_id for c in pipe.retained_from(12, 1_000)] == [12, 13]
    assert [c.instance_id for c in pipe.retained_from(11, 16)] == [11, 12]
    assert [c.instance_id for c in pipe.retained_from(11, 0)] == [11], "at least one"
    assert pipe.retained_from(14, 1_000) == []


def test_first_kept_is_the_lowest_value_that_can_still_be_given() -> None:
    pipe = pipeline()
    assert pipe.first_kept() == 11
    start(pipe, 3)
    assert pipe.first_kept() == 11
    choose(pipe, 11)
    choose(pipe, 12)
    assert pipe.first_kept() == 11
    pipe.release_durable(11)
    assert pipe.first_kept() == 12
    pipe.release_durable(12)
    assert pipe.first_kept() == 13
    choose(pipe, 13)
    pipe.release_durable(13)
    assert pipe.first_kept() == 14


def test_accepts_are_sent_again_the_longest_waiting_first() -> None:
    pipe = pipeline()
    for now_ms in (1, 2, 3):
        start(pipe, now_ns=now_ms * MS)
    assert pipe.resend_due_ns(0) == 1 * MS
    due = pipe.resend_due(2 * MS)
    assert [instance.instance_id for instance in due] == [11, 12]
    for instance in due:
        pipe.note_sent(instance, 9 * MS)
    assert pipe.resend_due_ns(0) == 3 * MS
    assert pipe.resend_due(2 * MS) == []
    choose(pipe, 13)
    assert pipe.resend_due_ns(0) == 9 * MS
    choose(pipe, 11)
    choose(pipe, 12)
    assert pipe.resend_due_ns(0) is None


def test_an_instance_says_when_each_vote_came_and_when_it_was_chosen() -> None:
    pipe = pipeline()
    (instance,) = [pipe.start(b"value", (request(11),), 5)]
    pipe.count(11, 13, 7)
    pipe.count(11, 13, 8)
    assert (instance.opened_ns, instance.votes, instance.chosen_ns) == (5, {13: 7}, 0)
    pipe.note_sent(instance, 9)
    pipe.count(11, 11, 10)
    assert pipe.awaiting[11] is instance
    assert (instance.opened_ns, instance.votes, instance.chosen_ns) == (5, {13: 7, 11: 10}, 10)


def test_requests_wait_for_results_from_choosing_on() -> None:
    pipe = pipeline()
    start(pipe, 2)
    pipe.start(b"no-op", (), 0)
    for instance_id in (12, 13):
        choose(pipe, instance_id)
    assert {i: ids(list(each.requests)) for i, each in pipe.awaiting.items()} == {12: [12]}


def test_the_end_of_a_reign_gives_every_unanswered_request_once_in_order() -> None:
    pipe = pipeline()
    start(pipe, 4)
    choose(pipe, 13)
    choose(pipe, 11)
    pipe.awaiting.pop(11)
    pipe.unanswered.append(request(1))
    assert ids(pipe.take_requests()) == [1, 12, 13, 14]
    assert pipe.take_requests() == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_invariants_hold_for_any_votes(data: st.DataObject) -> None:
    pipe = pipeline(0)
    counted: dict[int, set[int]] = {}
    chosen: dict[int, ChosenValue] = {}
    durable = 0
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["start", "vote", "vote", "vote", "durable"])):
            case "start":
                start(pipe)
            case "vote":
                instance_id = data.draw(st.integers(1, pipe.next_instance))
                replica_id = data.draw(st.sampled_from([11, 12, 13]))
                found = pipe.count(instance_id, replica_id, 0)
                if instance_id < pipe.next_instance:
                    counted.setdefault(instance_id, set()).add(replica_id)
                if found is not None:
                    assert instance_id not in chosen, "chosen once"
                    chosen[instance_id] = found
            case "durable":
                durable = max(durable, data.draw(st.integers(0, pipe.chosen_through)))
                pipe.release_durable(durable)
        expected = {i for i, voters in counted.items() if len(voters) >= 2}
        assert set(chosen) == expected
        assert set(pipe.open) == set(range(1, pipe.next_instance)) - expected
        assert set(pipe.retained) == {i for i in expected if i > durable}
        assert pipe.retained_bytes == sum(len(c.value) for c in pipe.retained.values())
        hole = next(i for i in range(1, pipe.next_instance + 1) if i not in expected)
        assert pipe.chosen_through == hole - 1
        assert pipe.first_kept() == min({*pipe.open, *pipe.retained, pipe.next_instance})
    assert ids(pipe.take_requests()) == list(range(1, pipe.next_instance))
