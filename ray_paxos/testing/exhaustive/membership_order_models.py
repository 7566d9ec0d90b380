"""Models of orders: to take part, to vote, to vote as somebody else, and to forget.

A and D vote at first. D's learner and its acceptor are two sites, so that what the one orders and
the other answers comes late and again; A's processes are one, and once D votes no more A decides
alone. D's acceptor is killed, once: then its journal goes on in a new file. In `PARTS` D has no
part in the group at first, and its learner's process is the one that keeps a member's parts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.learner_messages import LearnerStatus, LearnReply, LearnRequest, RaiseVoteFloor
from ray_paxos.core.messages import Address, CreateGroup, Heartbeat, Nack, RoleName
from ray_paxos.core.parts import Part
from ray_paxos.core.parts_messages import PartsFollowed, TakePart
from ray_paxos.testing.exhaustive.actions import Kill, Packet
from ray_paxos.testing.exhaustive.membership_models import (
    ADD,
    DEMOTE,
    PROMOTE,
    REMOVE,
    THREE,
    lead,
)
from ray_paxos.testing.exhaustive.model import CRASH, Model, Possible, SiteSpec
from ray_paxos.testing.exhaustive.parts import (
    REPLICAS,
    A,
    D,
    acceptor,
    accepts_above,
    any_of,
    but_to,
    change,
    configuration,
    kinds,
    learner,
    mail,
    proposer,
    take_over,
    under,
    whole,
)
from ray_paxos.testing.exhaustive.stage import Stage

# The order that made D's part when the group began.
MADE = mail(learner(D), acceptor(D), CreateGroup(REPLICAS[D], configuration((A, D)), 1))
AGAIN_AND_AGAIN = (
    change(A, DEMOTE, D),
    change(A, PROMOTE, D, expected=2),
    change(A, DEMOTE, D, expected=4),
)


def _told_a_master(packet: Packet, *, but_under: int) -> bool:
    """Lose what A's proposer is told of how far D is, but where it has to know that D is there."""
    is_status = isinstance(packet.envelope.message, LearnerStatus)
    return is_status and packet.to == proposer(A) and packet.envelope.config_id != but_under


def _lead_with_d(stage: Stage) -> None:
    """A leads, by D's acceptor and its own. The order that made D's part comes once more."""
    lead(stage, A, [D], [D])
    stage.mail += [*AGAIN_AND_AGAIN, MADE]


ORDERS = Model(
    name="orders",
    purpose="D votes no more, votes again, and votes no more; orders come late, over a new journal",
    recipe=replace(THREE, configuration=configuration((A, D))),
    sites=(
        SiteSpec("A", whole(A)),
        SiteSpec("learner D", (learner(D),)),
        SiteSpec("acceptor D", (acceptor(D),)),
    ),
    possible=(Possible(2, Kill(acceptor(D)), CRASH),),
    budgets={CRASH: 1},
    prelude=_lead_with_d,
    is_lost=any_of(
        kinds(Nack, LearnRequest, RaiseVoteFloor),
        but_to([learner(D)], Heartbeat),
        under((0, 4, 6), Heartbeat),
        partial(_told_a_master, but_under=2),
    ),
)


def _lead_with_d_to_remove(stage: Stage) -> None:
    """A leads, by D's acceptor and its own. The order that made D's part comes once more."""
    lead(stage, A, [D], [D])
    stage.mail += [
        change(A, REMOVE, D),
        change(A, ADD, D, expected=2),
        change(A, PROMOTE, D, expected=4),
        MADE,
    ]


REJOINED = replace(
    ORDERS,
    name="wide rejoined",
    purpose="D is removed, added again and promoted; orders come late, over a new journal",
    prelude=_lead_with_d_to_remove,
    is_lost=any_of(
        kinds(Nack, RaiseVoteFloor),
        but_to([learner(D)], Heartbeat),
        partial(_told_a_master, but_under=4),
        accepts_above(7),
    ),
)

TAKEN = Configuration(2, configuration((A,)).voters, (Voter(D, 12),), 12)
"""D's, once it is added at instance 2."""
KEEPING = replace(THREE, configuration=configuration((A,)), keepers=frozenset({D}))
TAKE = mail(proposer(A), learner(D), TakePart(Part(12, KEEPING.spec, TAKEN)), config_id=2)


def _lead_and_add_d(stage: Stage) -> None:
    """A leads alone, and D has taken part, and learned that; the order to do so comes once more.

    D's other roles, which are not here, let go of what it leaves as soon as it does.
    """
    stage.order(take_over(A, 1))
    stage.order(change(A, ADD, D))
    for role in (proposer(D), Address(D, RoleName.CHECKPOINTER)):
        stage.order(mail(role, learner(D), PartsFollowed(100)))
    stage.order(TAKE)
    stage.deliver(Heartbeat, learner(D))
    stage.deliver(LearnRequest, learner(A))
    stage.deliver(LearnReply, learner(D))
    stage.deliver(Heartbeat, learner(D))
    stage.deliver(LearnerStatus, proposer(A))
    stage.lose_all()
    stage.mail += [change(A, PROMOTE, D, expected=2), change(A, REMOVE, D, expected=4), TAKE]


PARTS = replace(
    ORDERS,
    name="parts",
    purpose="D votes, and leaves; orders to take part and to vote come late, over two new lives",
    recipe=KEEPING,
    possible=(Possible(1, Kill(learner(D)), CRASH), Possible(2, Kill(acceptor(D)), CRASH)),
    budgets={CRASH: 2},
    prelude=_lead_and_add_d,
    is_lost=any_of(
        kinds(Nack, LearnRequest, RaiseVoteFloor, Heartbeat),
        partial(_told_a_master, but_under=-1),
    ),
)

WIDE_ORDERS = (
    replace(
        ORDERS,
        name="wide orders",
        purpose="as orders, and D's learner may be killed instead of its acceptor",
        possible=(*ORDERS.possible, Possible(1, Kill(learner(D)), CRASH)),
    ),
    REJOINED,
)
"""For the nights."""
