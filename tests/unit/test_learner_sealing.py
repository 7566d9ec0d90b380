"""Sealing, the vote floor, and what the checkpointer merges; at the end, any sequence of messages.

What a learner calls durable is in sealed segments, and its acceptor's vote floor rises only over
what is durable here and, by the master's word, at a majority.
"""

from __future__ import annotations

import dataclasses
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.client_messages import Flush
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import (
    ApplyingStopped,
    CaughtUp,
    InvariantBroken,
    MessageRefused,
    SegmentsSealed,
)
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import (
    Chosen,
    ChosenValue,
    LearnerStatus,
    LearnReply,
    LearnRequest,
    RaiseVoteFloor,
    SegmentMerged,
    SegmentSealed,
    SegmentsListed,
    SegmentsWanted,
    VoteFloorRaised,
)
from ray_paxos.core.messages import (
    Address,
    Heartbeat,
)
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.sealing import INSTANCE_OVERHEAD_BYTES
from ray_paxos.core.tasks import PublishMerged, TaskDone, TaskFailed
from ray_paxos.core.values import EMPTY_CHAIN, extend_chain, value_hash
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from tests.unit.core_helpers import (
    CONFIGURATION,
    GROUP,
    LATER_CONFIGURATION,
    MS,
    POINT,
    acceptor_of,
    ballot,
    checkpointer_of,
    chosen,
    client,
    commands,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
    value,
)
from tests.unit.learner_bench import ME, SETTINGS, LearnerBench, ScriptedHost

AGE_MS = SETTINGS.seal_age_ns // MS


@pytest.fixture
def bench() -> LearnerBench:
    return LearnerBench()


def sealing(effects: Effects) -> tuple[int, int] | None:
    """The range that is on its way into a segment."""
    seals = [record for record in effects.records if isinstance(record, SealSegment)]
    if not seals:
        return None
    (seal,) = seals
    return seal.instances[0].chosen.instance_id, seal.instances[-1].chosen.instance_id


def flush(bench: LearnerBench) -> Effects:
    return bench.receive(client(), Flush())


def sealed_through(bench: LearnerBench, last: int, step: int = 0) -> None:
    """Learn and seal up to an instance, in segments of `step` (one for all)."""
    step = step or last
    for first in range(1, last + 1, step):
        bench.learns(first, first + step - 1)
        flush(bench)
        bench.sync()


# When.


def test_the_oldest_unsealed_value_is_sealed_when_it_is_old_enough(bench: LearnerBench) -> None:
    bench.now_ns = 500 * MS
    bench.learns(1, 2)
    assert bench.learner.deadline_ns == (500 + AGE_MS) * MS
    bench.now_ns = 900 * MS
    assert sealing(bench.learns(3, 3)) is None
    assert bench.learner.deadline_ns == (500 + AGE_MS) * MS
    assert sealing(bench.tick(499)) is None
    assert sealing(bench.tick(101)) == (1, 3)


def test_enough_bytes_are_sealed_at_once(bench: LearnerBench) -> None:
    size = len(chosen(1).value)
    enough = -(-SETTINGS.seal_bytes // size)
    assert sealing(bench.learns(1, enough - 2)) is None
    assert sealing(bench.learns(enough - 1, enough + 1)) == (1, enough + 1)


def test_what_is_sealed_counts_no_more(bench: LearnerBench) -> None:
    sealed_through(bench, 25)
    assert sealing(bench.learns(26, 40)) is None


def test_a_flush_seals_all_that_is_learned_without_waiting(bench: LearnerBench) -> None:
    bench.told(chosen(1), chosen(2), chosen(4))
    effects = flush(bench)
    assert sealing(effects) == (1, 2), "nothing above a hole"
    assert receivers(effects, LearnerStatus) == [client()]
    bench.sync()
    assert bench.status.durable_through == 2
    assert sealing(flush(bench)) is None
    assert sent(flush(bench), LearnerStatus) == [bench.status]


def test_one_segment_at_a_time_and_the_next_adjoins(bench: LearnerBench) -> None:
    bench.learns(1, 2)
    assert sealing(flush(bench)) == (1, 2)
    bench.learns(3, 4)
    assert sealing(flush(bench)) is None
    assert sealing(bench.tick(5 * AGE_MS)) is None
    assert bench.status.durable_through == 0
    effects = bench.sync()
    assert bench.status.durable_through == 2
    assert sealing(effects) == (3, 4), "asked for, so at once"
    effects = bench.sync()
    assert bench.status.durable_through == 4
    assert sealing(effects) is None


def test_what_came_during_a_seal_has_its_own_age(bench: LearnerBench) -> None:
    bench.learns(1, 1)
    assert sealing(bench.tick(AGE_MS)) == (1, 1)
    bench.now_ns += 100 * MS
    bench.learns(2, 2)
    bench.now_ns += 400 * MS
    bench.sync()
    assert bench.learner.deadline_ns == (AGE_MS + 100 + AGE_MS) * MS
    bench.sync()
    assert sealing(bench.tick(AGE_MS - 400)) == (2, 2)
    bench.sync()
    assert bench.learner.deadline_ns is None


def test_a_long_stretch_is_sealed_in_pieces(bench: LearnerBench) -> None:
    bench.learns(1, 100)
    sizes = []
    while bench.unsynced:
        (record,) = bench.unsynced
        assert isinstance(record, SealSegment)
        sizes.append(sum(len(instance.chosen.value) for instance in record.instances))
        bench.sync()
    flush(bench)
    bench.sync()
    assert bench.status.durable_through == 100
    assert len(sizes) > 1
    assert max(sizes) <= 2 * SETTINGS.seal_bytes


def test_a_value_larger_than_a_segment_is_sealed_alone() -> None:
    bench = LearnerBench(settings=dataclasses.replace(SETTINGS, seal_bytes=1))
    assert sealing(bench.learns(1, 3)) == (1, 1)
    assert sealing(bench.sync()) == (2, 2)


# While there is no room.


def full(bench: LearnerBench) -> int:
    """Learn until nothing more is taken in; gives how far."""
    for _ in range(500):
        learned = bench.status.learned_through
        bench.learns(learned + 1, learned + 1)
        if bench.status.learned_through == learned:
            return learned
    raise AssertionError("it takes in whatever it is told")


def test_a_learner_that_cannot_seal_takes_in_no_more_than_its_limit() -> None:
    bench = LearnerBench(settings=dataclasses.replace(SETTINGS, unsealed_bytes_max=20_000))
    through = full(bench)
    assert 20 <= through <= 20_000 // INSTANCE_OVERHEAD_BYTES
    assert bench.learner.is_full
    effects = bench.learns(through + 1, through + 9)
    assert bench.status.learned_through == through
    assert sent(effects, LearnerStatus) == [bench.status], "it says so"
    bench.replies(chosen(through + 1), first=through + 1, learned=through + 9)
    assert bench.status.learned_through == through
    # A seal is on its way all the time; now there is room.
    bench.sync()
    bench.sync()
    assert full(bench) > through


def test_results_and_values_count_for_the_limit() -> None:
    limit = dataclasses.replace(SETTINGS, unsealed_bytes_max=20_000)
    few = full(LearnerBench(settings=limit, host=ScriptedHost(result_bytes=2_000)))
    assert 5 <= few <= 10
    bench = LearnerBench(settings=limit)
    for instance_id in range(1, 100):
        bench.told(chosen(instance_id, encoded=value(commands("x" * 1_000))))
    assert 10 <= bench.status.learned_through <= 20


def test_a_full_learner_asks_nobody_and_goes_on_once_there_is_room() -> None:
    bench = LearnerBench(settings=dataclasses.replace(SETTINGS, unsealed_bytes_max=20_000))
    through = full(bench)
    effects = bench.beat(through=500)
    effects.extend(bench.replies(chosen(through + 1), first=through + 1, learned=500))
    effects.extend(bench.tick(5_000))
    assert sent(effects, LearnRequest) == []
    assert bench.learner.deadline_ns is None, "nothing is asked again either"
    (request,) = sent(bench.sync(), LearnRequest)
    assert request.from_instance == through + 1


def test_a_learner_that_an_answer_fills_does_not_go_on_asking() -> None:
    bench = LearnerBench(settings=dataclasses.replace(SETTINGS, unsealed_bytes_max=20_000))
    assert sent(bench.beat(through=500), LearnRequest)
    effects = bench.replies(*(chosen(i) for i in range(1, 101)), first=1, learned=500)
    assert 20 <= bench.status.learned_through < 100
    assert sent(effects, LearnRequest) == []
    assert sent(bench.sync(), LearnRequest) != []


def test_a_full_learner_seals_without_waiting_for_size_or_age() -> None:
    tight = dataclasses.replace(SETTINGS, seal_bytes=1_000_000, unsealed_bytes_max=20_000)
    bench = LearnerBench(settings=tight)
    through = full(bench)
    assert bench.unsynced
    bench.sync()
    assert bench.status.durable_through == through


def test_a_full_learner_still_sees_two_values_of_one_instance() -> None:
    bench = LearnerBench(settings=dataclasses.replace(SETTINGS, unsealed_bytes_max=20_000))
    through = full(bench)
    effects = bench.told(chosen(through, encoded=value(commands("another"))))
    assert happened(effects, InvariantBroken)


# What.


def test_a_segment_carries_both_chains(bench: LearnerBench) -> None:
    bench.told(chosen(1, ballot(7)), chosen(2))
    point = bench.status.point
    flush(bench)
    effects = bench.sync()
    assert happened(effects, SegmentsSealed) == [SegmentsSealed(GROUP, 1, 2)]
    chain = EMPTY_CHAIN
    for instance in bench.sealed:
        chain = extend_chain(chain, value_hash(instance.chosen.value))
        assert instance.chain == chain
    assert bench.sealed[0].chosen == chosen(1, ballot(7)), "with the ballot it was learned at"
    assert (bench.sealed[1].chain, bench.sealed[1].result_chain) == (
        point.chain,
        point.result_chain,
    )


def test_a_learner_goes_on_from_its_segments_where_it_was(bench: LearnerBench) -> None:
    bench.told(*(chosen(i, ballot(i)) for i in range(1, 31)))
    flush(bench)
    bench.sync()
    again = LearnerBench(sealed=bench.sealed, segments=[(1, 30, 900)])
    assert again.status == bench.status
    assert again.host.values == bench.host.values
    assert again.unsynced == []
    effects = again.learns(31, 31)
    assert sealing(effects) is None
    bench.learns(31, 31)
    assert again.status.point == bench.status.point
    assert again.beat(point=bench.status.point).events == []
    assert sealing(flush(again)) == (31, 31), "not what is sealed already"


def test_a_replay_holds_no_more_of_the_log_than_its_memory() -> None:
    def long_log() -> Iterator[SealedInstance]:
        for instance_id in range(1, 501):
            encoded = value(commands("x" * 10_000))
            yield SealedInstance(
                ChosenValue(instance_id, ballot(1, ME), encoded), EMPTY_CHAIN, None
            )

    tracemalloc.start()
    learner = Learner(
        group=GROUP,
        member_id=ME,
        configuration=CONFIGURATION,
        host=MachineHost(MachineRegistry(), group=GROUP),
        base=None,
        settings=SETTINGS,
        random=random.Random(1),
        incarnation=1,
        now_ns=0,
        sealed=long_log(),
        segments=lambda: [(1, 500, 5_000_000)],
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert learner.applied_through == 500
    assert peak < 1_000_000


def test_a_machine_that_fails_on_replay_stops_there_and_learning_goes_on(
    bench: LearnerBench,
) -> None:
    sealed_through(bench, 4)
    again = LearnerBench(sealed=bench.sealed, host=ScriptedHost(fails_at=3))
    assert (again.status.learned_through, again.status.applied_through) == (4, 2)
    assert again.status.stopped
    assert happened(again.learns(5, 5), ApplyingStopped), "with an alarm"
    flush(again)
    again.sync()
    assert again.sealed[4].result_chain is None
    assert again.sealed[4].chain != EMPTY_CHAIN


def test_what_was_sealed_without_results_is_applied_after_a_restart(bench: LearnerBench) -> None:
    stopped = LearnerBench(host=ScriptedHost(fails_at=2))
    sealed_through(stopped, 4)
    assert [i.result_chain is None for i in stopped.sealed] == [False, True, True, True]
    mended = LearnerBench(sealed=stopped.sealed)
    bench.learns(1, 4)
    assert mended.status.applied_through == 4
    assert mended.status.point == bench.status.point


# The vote floor.


def asked_floor(effects: Effects) -> list[int]:
    for send in sends(effects):
        if isinstance(send.message, RaiseVoteFloor):
            assert send.to == acceptor_of(ME)
    return [message.floor for message in sent(effects, RaiseVoteFloor)]


def test_the_floor_needs_this_members_and_a_majoritys_durability(bench: LearnerBench) -> None:
    bench.learns(1, 9)
    assert asked_floor(bench.beat(durable=9)) == [], "learned is not durable"
    flush(bench)
    assert asked_floor(bench.sync()) == [10]


@pytest.mark.parametrize(("own", "majority", "floor"), [(9, 4, 5), (4, 9, 5), (6, 6, 7)])
def test_the_floor_is_one_above_the_lower_of_the_two(own: int, majority: int, floor: int) -> None:
    bench = LearnerBench()
    sealed_through(bench, own)
    assert asked_floor(bench.beat(durable=majority)) == [floor]


def test_without_a_word_of_a_majority_there_is_no_floor(bench: LearnerBench) -> None:
    sealed_through(bench, 9)
    assert asked_floor(bench.beat()) == []
    assert asked_floor(bench.told()) == []


def test_the_floor_never_passes_a_hole(bench: LearnerBench) -> None:
    # Schedule 2: 7 is chosen and even durable elsewhere; 5 and 6 are not learned here.
    bench.told(*(chosen(i) for i in (1, 2, 3, 4, 7, 8)))
    flush(bench)
    bench.sync()
    assert asked_floor(bench.beat(durable=8)) == [5]


def test_a_chosen_message_tells_what_a_majority_has_too(bench: LearnerBench) -> None:
    sealed_through(bench, 9)
    assert asked_floor(bench.told(durable=6)) == [7]
    bench.receive(acceptor_of(ME), VoteFloorRaised(7))
    assert asked_floor(bench.told(durable=12)) == [10]
    bench.receive(acceptor_of(ME), VoteFloorRaised(10))
    assert asked_floor(bench.told(durable=3)) == [], "late: it never falls"
    bench.learns(10, 11)
    flush(bench)
    assert asked_floor(bench.sync()) == [12]


def test_a_lost_wish_is_repeated_but_not_all_the_time(bench: LearnerBench) -> None:
    sealed_through(bench, 9)
    assert asked_floor(bench.beat(durable=5)) == [6]
    assert asked_floor(bench.beat(durable=9)) == []
    assert bench.learner.deadline_ns == SETTINGS.catch_up_retry_ns
    assert asked_floor(bench.tick(SETTINGS.catch_up_retry_ns / MS)) == [10]
    bench.receive(acceptor_of(ME), VoteFloorRaised(10))
    assert bench.learner.deadline_ns is None
    assert asked_floor(bench.beat(durable=9)) == []


@pytest.mark.parametrize(("config_id", "floors"), [(0, []), (9, []), (10, [10]), (11, [10])])
def test_a_majority_of_an_older_configuration_is_none(config_id: int, floors: list[int]) -> None:
    bench = LearnerBench(configuration=LATER_CONFIGURATION)
    sealed_through(bench, 9)
    effects = bench.receive(proposer_of(1), Chosen((), 0, 9), config_id=config_id)
    assert asked_floor(effects) == floors
    bench = LearnerBench(configuration=LATER_CONFIGURATION)
    sealed_through(bench, 9)
    assert asked_floor(bench.beat(durable=9, config_id=config_id)) == floors


def test_who_does_not_vote_has_no_floor() -> None:
    bench = LearnerBench(replica_id=0)
    sealed_through(bench, 9)
    assert asked_floor(bench.beat(durable=9)) == []
    assert bench.learner.deadline_ns is None


@pytest.mark.parametrize("sender", [client(1), acceptor_of(1), learner_of(1)])
def test_only_a_proposer_speaks_for_a_majority(bench: LearnerBench, sender: Address) -> None:
    sealed_through(bench, 9)
    for message in (Heartbeat(ballot(1), 1, True, 0, 9, POINT), Chosen((), 0, 9)):
        assert asked_floor(bench.receive(sender, message)) == []


# Segments and the checkpointer.


def told_segments(effects: Effects) -> list[tuple[int, int]]:
    """Told one by one, and then all at once."""
    for send in sends(effects):
        if isinstance(send.message, SegmentSealed | SegmentsListed):
            assert send.to == checkpointer_of(ME)
    told = sent(effects, SegmentSealed)
    for listed in sent(effects, SegmentsListed):
        told += listed.segments
        assert listed.floor == (listed.segments[0].first if listed.segments else 1)
    return [(message.first, message.last) for message in told]


def test_the_checkpointer_hears_of_each_segment_once_and_of_all_when_it_asks(
    bench: LearnerBench,
) -> None:
    heard = []
    for first in (1, 4, 7):
        heard += told_segments(bench.learns(first, first + 2))
        heard += told_segments(flush(bench))
        heard += told_segments(bench.sync())
    assert heard == [(1, 3), (4, 6), (7, 9)]
    again = bench.receive(checkpointer_of(ME), SegmentsWanted())
    assert told_segments(again) == [(1, 3), (4, 6), (7, 9)]


def test_after_a_restart_it_tells_of_all_segments_again(bench: LearnerBench) -> None:
    sealed_through(bench, 6, step=3)
    again = LearnerBench(sealed=bench.sealed, segments=[(1, 3, 90), (4, 6, 90)])
    assert told_segments(again.beat()) == [(1, 3), (4, 6)]
    assert told_segments(again.beat()) == []


def merged(bench: LearnerBench, first: int, last: int, of: Address | None = None) -> Effects:
    message = SegmentMerged(first, last, 90)
    return bench.receive(of or checkpointer_of(ME), message)


def test_a_merged_segment_takes_the_place_of_its_parts(bench: LearnerBench) -> None:
    sealed_through(bench, 12, step=3)
    effects = merged(bench, 4, 9)
    assert effects.tasks == [PublishMerged(GROUP, 4, 9)]
    before = bench.receive(checkpointer_of(ME), SegmentsWanted())
    assert told_segments(before) == [(1, 3), (4, 6), (7, 9), (10, 12)], "not yet"
    bench.comes_to(TaskDone())
    again = bench.receive(checkpointer_of(ME), SegmentsWanted())
    assert told_segments(again) == [(1, 3), (4, 9), (10, 12)]
    (listed,) = sent(again, SegmentsListed)
    sizes = [segment.byte_count for segment in listed.segments]
    assert sum(sizes) == sum(len(instance.chosen.value) for instance in bench.sealed)


@pytest.mark.parametrize(
    ("first", "last"),
    [(1, 15), (2, 6), (1, 5), (4, 10), (13, 15), (1, 3), (0, 6)],
    ids=["too far", "starts inside", "ends inside", "ends inside 2", "unknown", "one", "too low"],
)
def test_only_whole_known_segments_are_merged(bench: LearnerBench, first: int, last: int) -> None:
    sealed_through(bench, 12, step=3)
    effects = merged(bench, first, last)
    assert effects.records == []
    assert effects.tasks == []
    assert happened(effects, MessageRefused)


@pytest.mark.parametrize("sender", [checkpointer_of(1), learner_of(ME), proposer_of(ME)])
def test_only_the_own_checkpointer_merges(bench: LearnerBench, sender: Address) -> None:
    sealed_through(bench, 6, step=3)
    assert merged(bench, 1, 6, sender).tasks == []


def test_a_merge_that_is_told_late_takes_nothing_back(bench: LearnerBench) -> None:
    sealed_through(bench, 12, step=3)
    merged(bench, 1, 6)
    bench.comes_to(TaskDone())
    merged(bench, 1, 12)
    bench.comes_to(TaskDone())
    for last in (6, 12):
        assert merged(bench, 1, last).tasks == []
    again = bench.receive(checkpointer_of(ME), SegmentsWanted())
    assert told_segments(again) == [(1, 12)]


def test_a_merge_that_is_told_twice_is_published_once(bench: LearnerBench) -> None:
    sealed_through(bench, 6, step=3)
    assert merged(bench, 1, 6).tasks == [PublishMerged(GROUP, 1, 6)]
    assert merged(bench, 1, 6).tasks == [], "it is on its way"
    bench.comes_to(TaskDone())
    again = bench.receive(checkpointer_of(ME), SegmentsWanted())
    assert told_segments(again) == [(1, 6)]


def test_a_merge_that_could_not_be_published_leaves_its_parts_and_is_told(
    bench: LearnerBench,
) -> None:
    # Else the parts would be scrubbed, and repaired, under a name that no file has.
    sealed_through(bench, 6, step=3)
    merged(bench, 1, 6)
    effects = bench.comes_to(TaskFailed("merged-1-6 is not there"))
    assert told_segments(effects) == [(1, 3), (4, 6)]
    assert merged(bench, 1, 6).tasks == [PublishMerged(GROUP, 1, 6)], "made again"


# Anything at all.

steps = st.tuples(st.integers(0, 11), st.integers(1, 12), st.integers(0, 6))


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40), st.sampled_from([0, 0, 5]))
def test_any_sequence_keeps_order_durability_and_the_floor(
    sequence: list[tuple[int, int, int]], fails_at: int
) -> None:
    bench = LearnerBench(host=ScriptedHost(fails_at=fails_at))
    # The bench checks after every step: applied in order, durable = synced, no call in a circle.
    told: set[int] = set()
    given: set[int] = set()
    floor = majority = target = 0
    for kind, first, count in sequence:
        effects = Effects()
        values = tuple(chosen(i) for i in range(first, first + count))
        match kind:
            case 0 | 1:
                effects = bench.told(*values, through=first)
                told.update(range(first, first + count))
                target = max(target, first)
            case 2:
                # Nobody asked for it, perhaps: then it is taken in by other ways, or never.
                effects = bench.replies(*values, first=first, learned=first + count)
                given.update(range(first, first + count))
                target = max(target, first + count)
            case 3:
                majority = max(majority, first)
                effects = bench.beat(through=count, durable=first)
                target = max(target, count)
            case 4:
                effects = flush(bench)
            case 5 | 6:
                effects = bench.sync()
            case 7:
                effects = bench.tick(100 * count)
            case 8:
                effects = bench.receive(acceptor_of(ME), VoteFloorRaised(floor))
            case 9:
                bench = restarted(bench, fails_at)
                majority = target = 0
                told = set(range(1, bench.status.learned_through + 1))
            case 10 | 11:
                before = bench.status.learned_through
                is_open = before < target
                assert not is_open or bench.asked is not None, "it asks for what it misses"
                if bench.asked is not None:
                    to, question = bench.asked
                    wanted = range(question.from_instance, question.from_instance + count)
                    given.update(wanted)
                    effects = bench.replies(
                        *map(chosen, wanted), first=wanted.start, learned=target, of=to
                    )
                    is_news = is_open and wanted.stop > before + 1
                    assert bool(happened(effects, CaughtUp)) >= is_news
        for asked in asked_floor(effects):
            assert asked <= min(len(bench.sealed), majority) + 1
            floor = max(floor, asked)
        learned = bench.status.learned_through
        assert set(range(1, learned + 1)) <= told | given
        assert learned + 1 not in told, "learned as soon as it can be"
        applied = learned if not fails_at else min(learned, fails_at - 1)
        assert bench.status.applied_through == applied
        for reply in sent(effects, LearnReply):
            assert reply.values == ()


def restarted(bench: LearnerBench, fails_at: int) -> LearnerBench:
    """What was not synced is lost."""
    sealed: list[SealedInstance] = list(bench.sealed)
    segments = [(1, len(sealed), 1)] if sealed else []
    return LearnerBench(host=ScriptedHost(fails_at=fails_at), sealed=sealed, segments=segments)
