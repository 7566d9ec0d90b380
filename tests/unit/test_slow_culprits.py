"""What most probably held a slow command up, in words."""

from __future__ import annotations

import msgspec
import pytest

from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.slow_commands import SlowInstance
from ray_paxos.observability.slow_report import slow_report
from ray_paxos.observability.slow_view import SlowVote
from tests.unit.slow_bench import AT_MS, MEMBERS, answers, culprit, only, slow, step

# Votes.


def test_a_slow_disk() -> None:
    told = answers(
        slow(accept=48, votes={1: 1, 2: 48}), fsync={"m2": (step("fsync", 45, (1, 10)),)}
    )
    assert culprit(told) == (
        "m2 answered after 48 ms; m2's disk took 45 ms of them; m3 had not answered by then"
    )


def test_two_slow_disks() -> None:
    told = answers(
        slow(accept=48, votes={2: 44, 3: 48}),
        fsync={m: (step("fsync", 40 + i, (1, 10)),) for i, m in enumerate(("m2", "m3"))},
    )
    assert culprit(told) == (
        "m2 and m3 answered after 48 ms; m2's and m3's disks took 40 ms and 41 ms of them; "
        "m1 had not answered by then"
    )


def test_a_disk_that_took_little_of_it_is_not_blamed() -> None:
    told = answers(
        slow(accept=480, votes={1: 1, 2: 480}), fsync={"m2": (step("fsync", 60, (1, 10)),)}
    )
    assert culprit(told) == (
        "m2 answered after 480 ms; no write there was slow enough to explain it: the network, or "
        "the processes, held it up; m3 had not answered by then"
    )


def test_a_disk_that_was_busy_with_another_write() -> None:
    other = step("fsync", 45, (1, 9), at=AT_MS - 5)
    told = answers(slow(accept=48, votes={1: 1, 2: 48}), fsync={"m2": (other,)})
    assert culprit(told).startswith(
        "m2 answered after 48 ms; m2's disk took 45 ms for other writes meanwhile"
    )
    assert slow_report(MEMBERS, told).steps == (), "it belongs to what it explains"


def test_a_disk_whose_own_write_was_the_smaller_part_of_it() -> None:
    steps = step("fsync", 60, (1, 10), at=AT_MS - 3), step("fsync", 400, (1, 9), at=AT_MS - 63)
    told = answers(slow(accept=480, votes={1: 1, 2: 480}), fsync={"m2": steps})
    assert only(slow_report(MEMBERS, told)).votes[1] == SlowVote("m2", 480, 60, 400)
    assert "m2's disk took 400 ms for other writes meanwhile" in culprit(told)


def test_a_vote_that_came_early_was_not_held_up() -> None:
    other = step("fsync", 45, (1, 9), at=AT_MS - 5)
    told = answers(slow(accept=48, votes={1: 2, 2: 48}), fsync={"m1": (other,)})
    assert only(slow_report(MEMBERS, told)).votes[0] == SlowVote("m1", 2, None, None)


@pytest.mark.parametrize("at", [AT_MS - 60, AT_MS - 30, AT_MS + 30, AT_MS + 60])
def test_a_write_at_another_time_does_not_explain_it(at: float) -> None:
    other = step("fsync", 45, (1, 9), at=at)
    told = answers(slow(accept=48, votes={1: 1, 2: 48}), fsync={"m2": (other,)})
    assert "no write there was slow" in culprit(told)


def test_a_slow_process() -> None:
    told = answers(slow(accept=200, votes={1: 1, 3: 200}))
    assert culprit(told) == (
        "m3 answered after 200 ms; no write there was slow enough to explain it: the network, or "
        "the processes, held it up; m2 had not answered by then"
    )


def test_a_voter_of_which_nothing_is_known() -> None:
    told = answers(slow(accept=200, votes={1: 1, 3: 200}))
    told["m3", "acceptor"] = "no such actor lives"
    assert culprit(told) == (
        "m3 answered after 200 ms; what m3 spent it on is not known, since nobody answers there; "
        "m2 had not answered by then"
    )


def test_where_no_vote_is_known() -> None:
    assert culprit(answers(slow(accept=60, votes={}))) == (
        "the votes that made it chosen are not known"
    )


# Results.


def test_a_slow_machine() -> None:
    told = answers(slow(chosen=305), apply={"m1": (step("apply", 300, (1, 10)),)})
    assert culprit(told) == "the machine kv of m1 took 300 ms to apply it"


def test_a_machine_that_took_little_of_it_is_not_blamed() -> None:
    told = answers(slow(chosen=905), apply={"m1": (step("apply", 60, (1, 10)),)})
    assert culprit(told) == (
        "its results came 905 ms after it was chosen; no apply at m1 was slow enough to explain "
        "it: its learner was busy with something else, or its process stood still"
    )


def test_a_slow_step_of_many_instances() -> None:
    told = answers(slow(chosen=305), apply={"m1": (step("apply", 300, (1, 9), (1, 10), (1, 11)),)})
    assert culprit(told) == (
        "the machine kv of m1 took 300 ms to apply it, with 2 other instances in the same step"
    )


def test_another_members_slow_machine_is_not_blamed() -> None:
    told = answers(slow(chosen=305), apply={"m2": (step("apply", 300, (1, 10)),)})
    assert culprit(told) == (
        "its results came 305 ms after it was chosen; no apply at m1 was slow enough to "
        "explain it: its learner was busy with something else, or its process stood still"
    )


def test_what_was_applied_before_it_held_it_up() -> None:
    told = answers(slow(chosen=305), apply={"m1": (step("apply", 300, (1, 8), at=AT_MS - 4),)})
    assert culprit(told) == (
        "its results came 305 ms after it was chosen: m1 applied instance 8 of group 1 for 300 ms "
        "meanwhile"
    )


def test_a_learner_of_which_nothing_is_known() -> None:
    told = answers(slow(chosen=305))
    told["m1", "learner"] = "no such actor lives"
    assert "what the learner of m1 did is not known" in culprit(told)


def test_a_session_is_of_no_machine() -> None:
    told = answers(slow(chosen=305, machine=""), apply={"m1": (step("apply", 300, (1, 10)),)})
    assert culprit(told) == "the learner of m1 took 300 ms to apply it"


# The queue.


def test_a_queue_behind_open_instances() -> None:
    ahead = [slow(number, accept=110, chosen=1, at_ms=AT_MS - 2) for number in range(2, 10)]
    told = answers(slow(queue=120, at_ms=AT_MS), *ahead)
    (command,) = [c for c in slow_report(MEMBERS, told).commands if c.instance_id == 10]
    assert command.culprit == (
        "waited 120 ms in the queue of the master m1: 8 slow instances before it were open"
    )


@pytest.mark.parametrize(
    "other",
    [
        slow(9, accept=60, at_ms=AT_MS - 500),
        slow(11, accept=60, at_ms=AT_MS - 2),
        slow(9, accept=60, at_ms=AT_MS - 2, group=2),
    ],
)
def test_an_instance_long_before_behind_or_of_another_group_was_not_in_its_way(
    other: SlowInstance,
) -> None:
    told = answers(slow(queue=120), other)
    (command,) = [c for c in slow_report(MEMBERS, told).commands if c.instance_id == 10]
    assert command.culprit == (
        "waited 120 ms in the queue of the master m1; no instance before it is remembered as slow"
    )


def test_one_instance_in_its_way() -> None:
    told = answers(slow(queue=120), slow(9, accept=100, at_ms=AT_MS - 2))
    (command,) = [c for c in slow_report(MEMBERS, told).commands if c.instance_id == 10]
    assert command.culprit.endswith("1 slow instance before it was open")


def test_a_queue_before_an_election_was_over() -> None:
    started = EventRecord(
        sequence=1,
        at_ms=AT_MS - 4,
        cluster="demo",
        member="m1",
        role="proposer",
        group=1,
        kind="MasterStarted",
        level="INFO",
        text="",
    )
    instance = slow(queue=120)
    assert culprit(answers(instance, events=(started,))) == (
        "waited 120 ms in the queue of the master m1, which began to serve only 118 ms after it "
        "had come"
    )
    others = msgspec.structs.replace(started, group=2)
    earlier = msgspec.structs.replace(started, at_ms=AT_MS - 500)
    assert "began" not in culprit(answers(instance, events=(others, earlier)))


def test_a_queue_behind_a_slow_machine() -> None:
    told = answers(
        slow(queue=120), apply={"m1": (step("apply", 110, (1, 8), (1, 9), at=AT_MS - 3),)}
    )
    assert culprit(told) == (
        "waited 120 ms in the queue of the master m1: its learner applied instance 8 of group 1 "
        "and 1 other for 110 ms meanwhile"
    )
