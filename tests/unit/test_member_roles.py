"""How groups come to a member, and go, while its roles run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ray_paxos.core.effects import Effects, Send
from ray_paxos.core.events import GroupNotOpened, MessageRefused
from ray_paxos.core.genesis import Configuration, GroupSpec, MemberSpec, Voter
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import CatchUp, LearnReply, LearnRequest
from ray_paxos.core.member_roles import FOLLOW_AGAIN_NS, TELL_AGAIN_NS, PartsFollower, PartsKeeper
from ray_paxos.core.messages import (
    Address,
    CreateGroup,
    Envelope,
    Message,
    OrderDone,
    RemoveGroup,
)
from ray_paxos.core.parts import MembersMet, Part, PartLeft, Parts, PartTaken
from ray_paxos.core.parts_messages import DROPPED, DropPart, PartsChanged, PartsFollowed, TakePart
from ray_paxos.core.records import Record, SealSegment
from ray_paxos.core.role import Role
from ray_paxos.core.tasks import (
    DropSaved,
    FollowParts,
    Outcome,
    PartsOpened,
    Task,
    TaskDone,
    TaskFailed,
)
from ray_paxos.errors import StorageError
from tests.unit.core_helpers import (
    acceptor_of,
    checkpointer_of,
    client,
    happened,
    learner_of,
    proposer_of,
    receivers,
    sends,
    sent,
)
from tests.unit.proposer_bench import ProposerBench

ME = 4
SPEC = GroupSpec(7, (Voter(1, 1), Voter(2, 2), Voter(3, 3)), ())
ADDED = Configuration(10, SPEC.voters, (Voter(ME, 5),), 5)
PART = Part(5, SPEC, ADDED)
OTHER_PART = Part(5, GroupSpec(9, SPEC.voters, ()), ADDED)
FIRST = GroupSpec(8, (Voter(1, 1), Voter(ME, 2)), (), begins_after=30)
VOTING = Part(2, FIRST, FIRST.configuration)
MASTER = proposer_of(1)


class Quiet:
    """A role that does nothing."""

    deadline_ns: int | None = None

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        return Effects()

    def on_deadline(self, now_ns: int) -> Effects:
        return Effects()

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        return Effects()

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        return Effects()

    def stamp(self, group: int) -> tuple[int, int]:
        return 0, 0


class Ordering(Quiet):
    """Orders something of its store with each message."""

    def __init__(self) -> None:
        self.outcomes: list[Task] = []
        self.durable: list[Record] = []

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        return Effects(tasks=[DropSaved(7)], records=[SealSegment(7, ())])

    def on_durable(self, records: Sequence[Record], now_ns: int) -> Effects:
        self.durable += records
        return Effects()

    def on_outcome(self, task: Task, outcome: Outcome, now_ns: int) -> Effects:
        self.outcomes.append(task)
        return Effects()


class Gone(Learner):
    """A learner whose log names this member no more."""

    def __init__(self) -> None:
        pass

    @property
    def has_left(self) -> bool:
        return True

    @property
    def configuration(self) -> Configuration:
        return Configuration(20, SPEC.voters, (), 6)

    @property
    def deadline_ns(self) -> int | None:
        return None

    def handle(self, envelope: Envelope, now_ns: int) -> Effects:
        return Effects()


def told(sender: Address, message: Message, group: int = 7) -> Envelope:
    return Envelope(b"genesis", group, sender, 0, 1, 0, message)


def keeper(parts: Parts | None = None, roles: dict[int, Role] | None = None) -> PartsKeeper:
    return PartsKeeper(roles or {}, member_id=ME, parts=parts or Parts(), now_ns=0)


def opened(own: PartsKeeper | PartsFollower, version: int, *groups: int, new: int = 0) -> Effects:
    made = {new: lambda now_ns: Quiet()} if new else {}
    outcome = PartsOpened(version, frozenset(groups), made)
    return own.on_outcome(FollowParts(0), outcome, 5)


def test_an_order_is_written_then_followed_then_answered() -> None:
    own = keeper()
    effects = own.handle(told(MASTER, TakePart(PART)), 1)
    assert effects.records == [PartTaken(7, PART)]
    assert not sends(effects)
    assert not effects.tasks
    effects = own.on_durable(effects.records, 2)
    assert effects.tasks == [FollowParts(0)]
    effects = opened(own, 1, 7, new=7)
    assert 7 in own.roles
    assert sent(effects, OrderDone) == [OrderDone(5, "")]
    assert receivers(effects, OrderDone) == [MASTER]
    assert sorted(receivers(effects, PartsChanged)) == sorted(
        [proposer_of(ME), checkpointer_of(ME)]
    )


def test_an_order_that_is_repeated_meanwhile_is_answered_once() -> None:
    own = keeper()
    first = own.handle(told(MASTER, TakePart(PART)), 1)
    again = own.handle(told(client(), TakePart(PART)), 1)
    assert not again.records
    assert not sends(again)
    own.on_durable(first.records, 2)
    assert receivers(opened(own, 1, 7, new=7), OrderDone) == [client()]
    done = own.handle(told(MASTER, TakePart(PART)), 6)
    assert sent(done, OrderDone) == [OrderDone(5, "")]
    assert not done.records


def test_an_order_that_is_refused_leaves_nothing() -> None:
    own = keeper(Parts(3, {}, {7: 5}))
    effects = own.handle(told(MASTER, TakePart(PART)), 1)
    (done,) = sent(effects, OrderDone)
    assert "has left" in done.refused
    assert not effects.records


def test_an_order_for_another_group_than_its_envelopes_is_no_order() -> None:
    effects = keeper().handle(told(MASTER, TakePart(PART), group=9), 1)
    assert not effects.records
    assert not sends(effects)


def test_a_first_voters_acceptor_is_made_before_anything_is_written() -> None:
    own = keeper()
    effects = own.handle(told(client(), TakePart(VOTING), group=8), 1)
    assert sent(effects, CreateGroup) == [CreateGroup(2, FIRST.configuration, 31)]
    assert receivers(effects, CreateGroup) == [acceptor_of(ME)]
    assert not effects.records
    effects = own.handle(told(acceptor_of(ME), OrderDone(2, ""), group=8), 2)
    assert effects.records == [PartTaken(8, VOTING)]
    assert not own.handle(told(acceptor_of(ME), OrderDone(2, ""), group=8), 2).records


def test_a_voter_that_its_acceptor_refuses_is_refused() -> None:
    own = keeper()
    own.handle(told(client(), TakePart(VOTING), group=8), 1)
    effects = own.handle(told(acceptor_of(ME), OrderDone(2, "the disk is full"), group=8), 2)
    assert sent(effects, OrderDone) == [OrderDone(2, "the disk is full")]
    assert not effects.records
    again = own.handle(told(client(), TakePart(VOTING), group=8), 3)
    assert sent(again, CreateGroup), "and may be ordered again"


def test_only_the_own_acceptor_is_believed() -> None:
    own = keeper()
    own.handle(told(client(), TakePart(VOTING), group=8), 1)
    assert not own.handle(told(acceptor_of(1), OrderDone(2, ""), group=8), 2).records


def test_the_other_roles_are_told_until_they_have_followed() -> None:
    own = keeper(Parts(3))
    effects = own.on_deadline(0)
    assert len(sent(effects, PartsChanged)) == 2
    own.handle(told(proposer_of(ME), PartsFollowed(3), group=0), 1)
    own.handle(told(checkpointer_of(1), PartsFollowed(3), group=0), 1)
    own.handle(told(checkpointer_of(ME), PartsFollowed(2), group=0), 1)
    assert not sends(own.on_deadline(TELL_AGAIN_NS - 1))
    effects = own.on_deadline(TELL_AGAIN_NS)
    assert receivers(effects, PartsChanged) == [checkpointer_of(ME)]
    own.handle(told(checkpointer_of(ME), PartsFollowed(3), group=0), 1)
    assert not sends(own.on_deadline(3 * TELL_AGAIN_NS))
    assert own.deadline_ns is None


def test_what_could_not_be_opened_is_tried_again() -> None:
    own = keeper()
    effects = own.handle(told(MASTER, TakePart(PART)), 1)
    own.on_durable(effects.records, 2)
    own.on_outcome(FollowParts(0), TaskFailed("the disk is full"), 3)
    assert not own.on_deadline(4).tasks
    assert own.on_deadline(3 + FOLLOW_AGAIN_NS).tasks == [FollowParts(0)]


def test_a_follower_opens_what_is_written_and_says_so() -> None:
    own = PartsFollower({}, member_id=ME, version=1)
    effects = own.handle(told(learner_of(ME), PartsChanged(2), group=0), 1)
    assert effects.tasks == [FollowParts(0)]
    assert not sends(effects)
    assert not own.handle(told(learner_of(ME), PartsChanged(3), group=0), 1).tasks, "one at a time"
    effects = opened(own, 2, 7, new=7)
    assert 7 in own.roles
    assert sent(effects, PartsFollowed) == [PartsFollowed(2)]
    assert effects.tasks == [FollowParts(0)], "there is more by now"
    opened(own, 3)
    assert not own.roles, "and that it has left"
    effects = own.handle(told(learner_of(ME), PartsChanged(3), group=0), 1)
    assert sent(effects, PartsFollowed) == [PartsFollowed(3)]
    assert not effects.tasks


def test_a_follower_believes_its_own_learner_only() -> None:
    own = PartsFollower({}, member_id=ME, version=1)
    effects = own.handle(told(learner_of(1), PartsChanged(2), group=0), 1)
    assert happened(effects, MessageRefused)
    assert not effects.tasks
    assert not sends(effects)


def test_a_message_never_makes_a_group() -> None:
    own = keeper()
    effects = own.handle(told(MASTER, PartsFollowed(4)), 1)
    assert not effects.records
    assert not effects.tasks


def test_what_a_role_ordered_is_told_to_no_other_that_comes_after_it() -> None:
    first, second = Ordering(), Ordering()
    own = PartsFollower({7: first}, member_id=ME, version=1)
    (task,) = own.handle(told(MASTER, OrderDone(0, "")), 1).tasks
    opened(own, 2)
    own.on_outcome(FollowParts(0), PartsOpened(3, frozenset({7}), {7: lambda now_ns: second}), 5)
    own.on_outcome(task, TaskDone(), 6)
    assert not first.outcomes
    assert not second.outcomes
    (task,) = own.handle(told(MASTER, OrderDone(0, "")), 7).tasks
    own.on_outcome(task, TaskDone(), 8)
    assert second.outcomes == [task]


def test_what_a_role_wrote_is_told_to_no_other_that_comes_after_it() -> None:
    first, second = Ordering(), Ordering()
    own = PartsFollower({7: first}, member_id=ME, version=1)
    records = own.handle(told(MASTER, OrderDone(0, "")), 1).records
    opened(own, 2)
    own.on_outcome(FollowParts(0), PartsOpened(3, frozenset({7}), {7: lambda now_ns: second}), 5)
    own.on_durable(records, 6)
    assert not first.durable
    assert not second.durable
    records = own.handle(told(MASTER, OrderDone(0, "")), 7).records
    own.on_durable(records, 8)
    assert second.durable == records


def test_what_is_there_stays_as_it_is_when_others_come_and_go() -> None:
    stays, new = Quiet(), Quiet()
    stays.deadline_ns, new.deadline_ns = 90, 70
    own = PartsFollower({7: stays, 8: Quiet()}, member_id=ME, version=1)
    own.handle(told(learner_of(ME), PartsChanged(2), group=0), 1)
    outcome = PartsOpened(2, frozenset({7, 9}), {9: lambda now_ns: new})
    assert not own.on_outcome(FollowParts(0), outcome, 5).tasks, "there is no more to follow"
    assert own.roles == {7: stays, 9: new}
    assert own.deadline_ns == 70
    opened(own, 3, 7)
    assert own.deadline_ns == 90, "what has left is not due any more"


def test_what_was_opened_at_the_second_try_is_not_tried_again() -> None:
    own = PartsFollower({}, member_id=ME, version=1)
    own.handle(told(learner_of(ME), PartsChanged(2), group=0), 1)
    own.on_outcome(FollowParts(0), TaskFailed("the disk is full"), 3)
    assert own.deadline_ns == 3 + FOLLOW_AGAIN_NS
    own.on_deadline(3 + FOLLOW_AGAIN_NS)
    assert own.deadline_ns is None
    assert not opened(own, 2, 7, new=7).tasks
    assert not own.on_deadline(9 * FOLLOW_AGAIN_NS).tasks


def test_word_of_an_older_change_does_not_stop_at_it() -> None:
    own = PartsFollower({}, member_id=ME, version=1)
    for version in (3, 2):
        own.handle(told(learner_of(ME), PartsChanged(version), group=0), 1)
    assert opened(own, 2, 7, new=7).tasks == [FollowParts(0)]


def test_a_role_that_follows_no_parts_may_say_what_it_likes() -> None:
    own = keeper(Parts(3))
    effects = own.handle(told(acceptor_of(ME), PartsFollowed(3), group=0), 1)
    assert happened(effects, MessageRefused)


def test_what_was_left_is_taken_again_only_once_all_roles_have_let_go_of_it() -> None:
    own = keeper(Parts(3, {}, {7: 4}))
    assert not own.handle(told(MASTER, TakePart(PART)), 1).records
    own.handle(told(proposer_of(ME), PartsFollowed(3), group=0), 1)
    own.handle(told(checkpointer_of(ME), PartsFollowed(2), group=0), 1)
    held = own.handle(told(MASTER, TakePart(PART)), 1)
    assert not held.records
    assert not sends(held), "whoever ordered it orders it again"
    for version in (3, 2):
        own.handle(told(checkpointer_of(ME), PartsFollowed(version), group=0), 2)
    assert own.handle(told(MASTER, TakePart(PART)), 3).records == [PartTaken(7, PART)]


def test_a_learner_that_has_left_leaves_a_tombstone_and_is_let_go_of_before_it_comes_back() -> None:
    own = keeper(Parts(1, {7: PART}), {7: Gone()})
    effects = own.handle(told(MASTER, OrderDone(0, "")), 1)
    assert effects.records == [PartLeft(7, 6, Gone().configuration)]
    assert not own.roles
    again = Part(7, SPEC, Configuration(30, SPEC.voters, (Voter(ME, 7),), 7))
    assert not own.handle(told(MASTER, TakePart(again)), 2).records
    own.on_durable(effects.records, 3)
    opened(own, 2)
    own.handle(told(proposer_of(ME), PartsFollowed(2), group=0), 4)
    own.handle(told(checkpointer_of(ME), PartsFollowed(1), group=0), 4)
    assert not own.handle(told(MASTER, TakePart(again)), 5).records
    own.handle(told(checkpointer_of(ME), PartsFollowed(2), group=0), 6)
    assert own.handle(told(MASTER, TakePart(again)), 7).records == [PartTaken(7, again)]


def left_group() -> PartsKeeper:
    """A member that has left group 7, which 1 and 90 have, and of those 90 joined later."""
    own = keeper(Parts(1, {7: PART}))
    voters, joined = (Voter(1, 1), Voter(90, 8)), (MemberSpec("m90", 90),)
    own.parts.apply(PartLeft(7, 6, Configuration(50, voters, replicas_given=8, joined=joined)))
    return own


@pytest.mark.parametrize("question", [CatchUp(0, ()), LearnRequest(4, 1_000)])
def test_whoever_has_left_tells_one_that_has_not_heard_of_it_who_has_the_group(
    question: Message,
) -> None:
    own = left_group()
    effects = own.handle(told(learner_of(2), question), 1)
    assert sends(effects) == [
        Send(learner_of(2), 7, CatchUp(50, (1, 90), (MemberSpec("m90", 90),)))
    ]
    assert not effects.records


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (learner_of(2), CatchUp(50, (1, 90))),
        (learner_of(ME), CatchUp(0, ())),
        (proposer_of(2), CatchUp(0, ())),
        (learner_of(2), LearnReply(1, (), 3, 1, 1, 0)),
    ],
)
def test_nothing_else_is_answered_for_a_group_that_was_left(
    sender: Address, message: Message
) -> None:
    """Two that have both left would answer each other for ever."""
    assert not sends(left_group().handle(told(sender, message), 1))


def test_a_group_that_was_dropped_or_is_here_again_is_nobody_elses_to_tell_of() -> None:
    own = left_group()
    own.parts.apply(PartLeft(7, DROPPED))
    assert not sends(own.handle(told(learner_of(2), CatchUp(0, ())), 1))
    own = left_group()
    own.parts.apply(PartTaken(7, Part(9, SPEC, ADDED)))
    assert not sends(own.handle(told(learner_of(2), CatchUp(0, ())), 1)), "it is being opened"


def test_those_that_are_named_are_met_so_that_they_can_be_asked() -> None:
    own = keeper(Parts(1, {7: PART}), {7: Quiet()})
    named = CatchUp(50, (90,), (MemberSpec("m90", 90),))
    effects = own.handle(told(learner_of(2), named), 1)
    assert effects.records == [MembersMet(0, (MemberSpec("m90", 90),))]
    assert not own.handle(told(learner_of(2), named), 2).records, "once"
    elsewhere = CatchUp(50, (91,), (MemberSpec("m91", 91),))
    assert not own.handle(told(learner_of(2), elsewhere, group=8), 3).records


def test_a_voter_begins_above_the_entry_that_made_it_one() -> None:
    own = keeper()
    later = Part(2, FIRST, Configuration(40, FIRST.voters))
    effects = own.handle(told(client(), TakePart(later), group=8), 1)
    assert sent(effects, CreateGroup) == [CreateGroup(2, later.configuration, 41)]
    other = own.handle(told(acceptor_of(ME), OrderDone(9, ""), group=8), 2)
    assert not other.records, "of another replica"


def test_what_a_learner_cannot_remove_is_not_taken_again() -> None:
    own = keeper(Parts(3, {}, {7: 4}))
    for sender in (proposer_of(ME), checkpointer_of(ME)):
        own.handle(told(sender, PartsFollowed(3), group=0), 1)
    left = PartsOpened(3, frozenset(), {}, {7: "what it had on the disk cannot be removed"})
    effects = own.on_outcome(FollowParts(0), left, 2)
    assert [event.group for event in happened(effects, GroupNotOpened)] == [7]
    held = own.handle(told(MASTER, TakePart(PART)), 3)
    assert not held.records
    assert not sends(held)
    assert own.handle(told(MASTER, TakePart(OTHER_PART), group=9), 3).records, "others are"
    assert own.on_deadline(2 + FOLLOW_AGAIN_NS).tasks == [FollowParts(0)], "it is tried again"
    opened(own, 3)
    assert own.handle(told(MASTER, TakePart(PART)), 4).records == [PartTaken(7, PART)]


def test_a_follower_has_followed_only_once_what_was_left_is_removed() -> None:
    own = PartsFollower({7: Quiet()}, member_id=ME, version=1)
    own.handle(told(learner_of(ME), PartsChanged(2), group=0), 1)
    left = PartsOpened(2, frozenset({9}), {9: lambda now_ns: Quiet()}, {7: "input/output error"})
    assert not sends(own.on_outcome(FollowParts(0), left, 2))
    assert list(own.roles) == [9], "the others are opened all the same"
    again = own.handle(told(learner_of(ME), PartsChanged(2), group=0), 3)
    assert not sends(again)
    assert not again.tasks, "not before its time"
    assert own.on_deadline(2 + FOLLOW_AGAIN_NS).tasks == [FollowParts(0)]
    assert sent(opened(own, 2, 9), PartsFollowed) == [PartsFollowed(2)]


def test_the_acceptor_is_asked_again_when_the_order_is_repeated() -> None:
    own = keeper()
    own.handle(told(client(), TakePart(VOTING), group=8), 1)
    again = own.handle(told(client(), TakePart(VOTING), group=8), 2)
    assert sent(again, CreateGroup) == [CreateGroup(2, FIRST.configuration, 31)]
    other = Part(9, FIRST, Configuration(0, (Voter(ME, 9),)))
    refused = own.handle(told(client(), TakePart(other), group=8), 3)
    (done,) = sent(refused, OrderDone)
    assert "replica 2 is being made" in done.refused


def test_a_group_that_cannot_be_opened_is_told_and_stops_no_other() -> None:
    own = keeper()
    effects = own.handle(told(MASTER, TakePart(PART)), 1)
    own.on_durable(effects.records, 2)
    outcome = PartsOpened(
        1, frozenset({7, 9}), {9: lambda now_ns: Quiet()}, {7: "the disk is full"}
    )
    effects = own.on_outcome(FollowParts(0), outcome, 3)
    assert sent(effects, OrderDone) == [OrderDone(5, "the disk is full")]
    assert [event.why for event in happened(effects, GroupNotOpened)] == ["the disk is full"]
    assert 9 in own.roles
    assert own.on_deadline(3 + FOLLOW_AGAIN_NS).tasks == [FollowParts(0)], "it is tried again"
    again = own.handle(told(MASTER, TakePart(PART)), 4)
    (done,) = sent(again, OrderDone)
    assert "cannot be opened" in done.refused
    assert not again.records


def test_a_role_that_cannot_be_made_is_as_one_that_cannot_be_opened() -> None:
    def fail(now_ns: int) -> Role:
        raise StorageError("unreadable")

    own = PartsFollower({}, member_id=ME, version=1)
    own.handle(told(learner_of(ME), PartsChanged(2), group=0), 1)
    effects = own.on_outcome(FollowParts(0), PartsOpened(2, frozenset({7}), {7: fail}), 5)
    assert [event.why for event in happened(effects, GroupNotOpened)] == ["unreadable"]
    assert not own.roles


def test_a_proposer_that_is_opened_anew_uses_the_ballots_after_those_before() -> None:
    first, second = ProposerBench().proposer, ProposerBench().proposer
    first.go_on_from(41)
    own = PartsFollower({7: first}, member_id=ME, version=1)
    opened(own, 2)
    own.on_outcome(FollowParts(0), PartsOpened(3, frozenset({7}), {7: lambda now_ns: second}), 5)
    assert second.round_seen == 41


def test_also_where_it_was_not_without_the_group_in_between() -> None:
    first, second = ProposerBench().proposer, ProposerBench().proposer
    first.go_on_from(41)
    own = PartsFollower({7: first}, member_id=ME, version=1)
    own.on_outcome(FollowParts(0), PartsOpened(3, frozenset({7}), {7: lambda now_ns: second}), 5)
    assert second.round_seen == 41


def test_a_group_is_dropped_while_its_acceptor_is_being_made() -> None:
    """The acceptor has missed the order, or its answer is lost; and nobody makes the group on."""
    own = keeper()
    own.handle(told(client(), TakePart(VOTING), group=8), 1)
    effects = own.handle(told(client(), DropPart(), group=8), 2)
    assert sent(effects, RemoveGroup) == [RemoveGroup(DROPPED, DROPPED)]
    # The order that is late makes nothing: the acceptor refuses it by its tombstone.
    assert not own.handle(told(acceptor_of(ME), OrderDone(2, ""), group=8), 3).records
    effects = own.handle(told(acceptor_of(ME), OrderDone(DROPPED, ""), group=8), 4)
    assert effects.records == [PartLeft(8, DROPPED)]


def test_a_group_is_given_while_it_is_dropped() -> None:
    """A master that has not dropped it yet orders a follower to take it, whose acceptor is slow.

    The answer to who drops it gets lost, and he asks again.
    """
    own = keeper()
    assert sent(own.handle(told(client(), DropPart()), 1), RemoveGroup)
    given = own.handle(told(MASTER, TakePart(PART)), 2)
    gone = own.handle(told(acceptor_of(ME), OrderDone(DROPPED, "")), 3)
    assert gone.records == [PartLeft(7, DROPPED)]
    own.on_durable([*given.records, *gone.records], 4)
    opened(own, own.parts.version)
    again = own.handle(told(client(), DropPart()), 5)
    assert sent(again, OrderDone) == [OrderDone(DROPPED, "")]
