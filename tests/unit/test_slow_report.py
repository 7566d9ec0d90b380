"""Slow commands are put together out of what several roles remember."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_paxos.observability.report import Answer
from ray_paxos.observability.slow_report import STEPS_SHOWN_MAX, slow_report
from ray_paxos.observability.slow_view import SlowVote
from ray_paxos.observability.slow_words import instances_text
from tests.unit.slow_bench import AT_MS, MEMBERS, VOTERS, answers, only, report, slow, step

# Joining.


def test_a_command_is_told_with_its_hops() -> None:
    instance = slow(queue=3, accept=48, chosen=2, votes={1: 48.0, 2: 1.0})
    command = only(slow_report(MEMBERS, answers(instance)))
    assert (command.at_ms, command.master, command.group) == (AT_MS, "m1", 1)
    assert (command.instance_id, command.machine) == (10, "kv")
    assert (command.commands, command.byte_count) == (4, 200)
    assert (command.total_ms, command.queue_ms) == (53, 3)
    assert (command.accept_ms, command.chosen_ms) == (48, 2)
    assert [vote.member for vote in command.votes] == ["m2", "m1"], "in the order of their coming"
    assert command.not_waited_for == ("m3",)


def test_a_vote_is_told_with_the_write_that_it_waited_for() -> None:
    told = answers(
        slow(accept=48, votes={1: 1.0, 2: 48.0}),
        fsync={
            "m2": (step("fsync", 45, (1, 9), (1, 10)), step("fsync", 12, (1, 10))),
            "m3": (step("fsync", 90, (1, 10)),),
        },
    )
    assert only(slow_report(MEMBERS, told)).votes == (
        SlowVote("m1", 1.0, None, None),
        SlowVote("m2", 48.0, 45, None),
    )


@pytest.mark.parametrize("instance", [(2, 10), (1, 11)])
def test_a_write_of_another_instance_is_not_taken_for_its_own(instance: tuple[int, int]) -> None:
    """Long before, so that it does not explain it by its time either."""
    far = step("fsync", 45, instance, at=AT_MS - 10_000)
    found = slow_report(MEMBERS, answers(slow(accept=48), fsync={"m2": (far,)}))
    assert all(vote.fsync_ms is None for vote in only(found).votes)
    assert [loose.duration_ms for loose in found.steps] == [45]


def test_a_write_is_of_an_instance_of_its_group() -> None:
    told = answers(
        slow(12, accept=48, group=2),
        fsync={"m2": (step("fsync", 44, (1, 12)), step("fsync", 40, (2, 12)))},
    )
    assert only(slow_report(MEMBERS, told)).votes[-1].fsync_ms == 40


def test_applies_are_told_by_member() -> None:
    told = answers(
        slow(chosen=300),
        apply={
            "m1": (step("apply", 290, (1, 10)),),
            "m3": (step("apply", 310, (1, 10)), step("apply", 99, (1, 8))),
        },
    )
    assert only(slow_report(MEMBERS, told)).apply_ms == {"m1": 290, "m3": 310}


def test_steps_of_no_remembered_command_are_told_by_themselves() -> None:
    told = answers(
        slow(10),
        fsync={"m2": (step("fsync", 60, (1, 10)), step("fsync", 70, (1, 11), at=AT_MS + 9_000))},
        apply={"m3": (step("apply", 80, (5, 3), at=AT_MS - 9_000),)},
    )
    found = slow_report(MEMBERS, told)
    assert [(loose.member, loose.what, loose.duration_ms) for loose in found.steps] == [
        ("m2", "fsync", 70),
        ("m3", "apply", 80),
    ]


def test_a_step_of_a_command_that_is_not_shown_belongs_to_it_all_the_same() -> None:
    told = answers(slow(10), slow(11, chosen=400), fsync={"m2": (step("fsync", 60, (1, 10)),)})
    found = slow_report(MEMBERS, told, over_ms=100)
    assert only(found).instance_id == 11
    assert found.steps == ()


def test_only_so_many_steps_are_told() -> None:
    many = tuple(step("fsync", 60, (1, 100 + n), at=AT_MS + 9_000 + n) for n in range(100))
    found = slow_report(MEMBERS, answers(fsync={"m2": many}))
    assert len(found.steps) == STEPS_SHOWN_MAX
    assert found.steps[0].at_ms == AT_MS + 9_099, "the newest"


def test_the_newest_come_first_and_no_more_than_were_asked_for() -> None:
    told = answers(*(slow(number, at_ms=AT_MS + number % 5) for number in range(20)))
    found = slow_report(MEMBERS, told, count=6)
    assert [command.instance_id for command in found.commands] == [19, 14, 9, 4, 18, 13]


def test_what_took_less_or_is_of_another_group_is_left_out() -> None:
    told = answers(
        slow(1, chosen=98.9), slow(2, chosen=99), slow(3, chosen=500, group=2), slow(4, chosen=1)
    )
    found = slow_report(MEMBERS, told, over_ms=100)
    assert {command.instance_id for command in found.commands} == {2, 3}
    assert only(slow_report(MEMBERS, told, over_ms=100, group=2)).instance_id == 3
    assert slow_report(MEMBERS, told, group=9).commands == ()


def test_steps_are_left_out_by_the_same_measure() -> None:
    told = answers(fsync={"m1": (step("fsync", 60, (1, 1)), step("fsync", 160, (2, 1)))})
    assert [s.duration_ms for s in slow_report(MEMBERS, told, over_ms=100).steps] == [160]
    assert [s.duration_ms for s in slow_report(MEMBERS, told, group=1).steps] == [60]


def test_who_leads_is_who_remembers() -> None:
    assert only(slow_report(MEMBERS, answers(slow(), master="m3"))).master == "m3"


def test_two_masters_of_one_group_are_both_told() -> None:
    told = answers(slow(10))
    told["m2", "proposer"] = ({}, report(slow(20)))
    found = slow_report(MEMBERS, told)
    assert {(command.master, command.instance_id) for command in found.commands} == {
        ("m1", 10),
        ("m2", 20),
    }


def test_a_voter_whose_name_is_not_known_is_told_by_its_id() -> None:
    command = only(slow_report(MEMBERS, answers(slow(votes={1: 0.1, 9: 1.0}))))
    assert command.votes[1].member == "member 9"


def test_who_votes_is_told_by_the_log_that_has_come_furthest() -> None:
    told = answers(slow(votes={1: 0.1, 2: 1.0}))
    state = {"groups": {1: {"config_id": 7, "voters": [1, 2]}}}
    told["m2", "learner"] = (state, report())
    assert only(slow_report(MEMBERS, told)).not_waited_for == ()


def test_who_tells_nothing_is_named() -> None:
    told = answers(slow())
    told["m3", "acceptor"] = "no such actor lives"
    told["m3", "checkpointer"] = "no such actor lives"
    found = slow_report(MEMBERS, told)
    assert found.silent == {"m3/acceptor": "no such actor lives"}, "of those that were of use"
    assert not found.is_silent
    assert len(found.commands) == 1


def test_where_nobody_tells_anything_that_is_said() -> None:
    found = slow_report(MEMBERS, dict.fromkeys(answers(), "gone"))
    assert found.is_silent
    assert found.commands == ()
    assert slow_report({}, {}).is_silent


def test_it_is_plain_data() -> None:
    told = answers(slow(accept=48), fsync={"m3": (step("fsync", 99, (7, 7)),)})
    document = json.loads(json.dumps(slow_report(MEMBERS, told).to_dict()))
    assert document["commands"][0]["votes"][0]["member"] == "m1"
    assert document["steps"][0]["instances"] == [[7, 7]]


# All of it.

TIMES = st.floats(0, 500).map(lambda ms: round(ms, 3))
PLACES = st.tuples(st.integers(1, 2), st.integers(8, 12))
INSTANCES = st.builds(
    lambda place, queue, accept, chosen, votes, at: slow(
        place[1], queue=queue, accept=accept, chosen=chosen, votes=votes, group=place[0], at_ms=at
    ),
    PLACES,
    TIMES,
    TIMES,
    TIMES,
    st.dictionaries(st.integers(1, 4), TIMES, max_size=4),
    st.integers(AT_MS, AT_MS + 600),
)
STEPS = st.builds(
    lambda what, took, places, at: step(what, took, *places, at=at),
    st.sampled_from(["fsync", "apply"]),
    TIMES,
    st.lists(PLACES, max_size=3),
    st.integers(AT_MS, AT_MS + 600),
)
ANSWERS = st.dictionaries(
    st.tuples(
        st.sampled_from([*MEMBERS, "m9"]), st.sampled_from(["proposer", "acceptor", "learner"])
    ),
    st.text(max_size=4)
    | st.tuples(
        st.sampled_from([{}, VOTERS]),
        st.builds(
            lambda instances, steps: report(*instances, steps=tuple(steps)),
            st.lists(INSTANCES, max_size=4),
            st.lists(STEPS, max_size=4),
        ),
    ),
    max_size=12,
)


@given(ANSWERS, TIMES, st.integers(1, 5))
def test_whatever_is_told_is_put_together(
    told: dict[tuple[str, str], Answer], over_ms: float, count: int
) -> None:
    found = slow_report(MEMBERS, told, over_ms=over_ms, count=count)
    remembered = [
        each
        for answer in told.values()
        if not isinstance(answer, str)
        for each in answer[1].slow_instances
        if each.total_ms >= over_ms
    ]
    assert len(found.commands) == min(len(remembered), count)
    for command in found.commands:
        assert command.culprit
        assert "None" not in command.culprit
        assert command.total_ms >= over_ms
    assert slow_report(MEMBERS, told, over_ms=over_ms, count=count) == found
    json.dumps(found.to_dict())


def test_words() -> None:
    assert instances_text(()) == "something else"
    assert instances_text(((1, 5),)) == "instance 5 of group 1"
