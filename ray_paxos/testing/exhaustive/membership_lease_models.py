"""A model of leases over changes of who votes: a notice outlives the configuration of its lease.

A votes alone at first, then with B, then with B and C; its lease is its own, then B's, too. Of the
three, B and C are a majority without A. What A's proposer told its learner of its leases comes once
more, late. By default no time passes: then all leases run.
"""

from __future__ import annotations

from dataclasses import replace

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.learner_messages import Chosen, LearnerStatus, LearnRequest
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Heartbeat,
    LeaseNotice,
    Nack,
    Prepare,
    PreVote,
    Promise,
)
from ray_paxos.core.values import MembershipKind
from ray_paxos.testing.exhaustive.actions import Packet
from ray_paxos.testing.exhaustive.lease_models import FAST, RECIPE, RING_A, SLOW, TICK
from ray_paxos.testing.exhaustive.model import Model, Passing, SiteSpec
from ray_paxos.testing.exhaustive.parts import (
    A,
    B,
    C,
    acceptor,
    accepts_above,
    any_of,
    but_to,
    change,
    configuration,
    kinds,
    learner,
    mail,
    passive,
    proposer,
    take_over,
    whole,
)
from ray_paxos.testing.exhaustive.stage import Stage


def _notice(round: int, config_id: int) -> Packet:
    """What A's proposer told its learner, at the beginning of time, right after its record."""
    notice = LeaseNotice(Ballot(round, A, 1), 1, RECIPE.proposer.lease_ns, config_id + 1)
    return mail(proposer(A), learner(A), notice, config_id)


def _lead_with_b(stage: Stage) -> None:
    """A has led alone, and leads with B; C has told how far it is."""
    others = learner(B), learner(C)
    stage.order(take_over(A, 1))
    stage.deliver(Heartbeat, *others)
    stage.deliver(LearnerStatus, proposer(A))
    stage.lose_all()
    stage.order(change(A, MembershipKind.PROMOTE, B))
    stage.deliver(Chosen, *others)
    stage.deliver(Prepare, acceptor(B))
    stage.deliver(Promise, proposer(A))
    stage.deliver(Accept, acceptor(B))
    stage.deliver(Accepted, proposer(A))
    stage.deliver(Heartbeat, *others)
    stage.deliver(LearnerStatus, proposer(A))
    stage.mail = [
        *(_notice(2 + config_id // 2, config_id) for config_id in (0, 2)),
        change(A, MembershipKind.PROMOTE, C, expected=2),
        take_over(B, 5),
    ]


OUTLIVED = Model(
    name="outlived",
    purpose="B votes, then C; notices of A's earlier leases come late; B stands",
    recipe=replace(RECIPE, configuration=configuration((A,), (B, C))),
    sites=(SiteSpec("A", whole(A)), SiteSpec("B", whole(B)), SiteSpec("C", passive(C))),
    prelude=_lead_with_b,
    is_lost=any_of(
        but_to([acceptor(B), acceptor(C)], Heartbeat),
        kinds(LearnerStatus, LearnRequest, Nack, PreVote),
        accepts_above(5),
    ),
    is_leased=True,
)

WIDE_OUTLIVED = replace(
    OUTLIVED,
    name="wide outlived",
    purpose="as outlived, and time passes; three ticks",
    possible=(RING_A,),
    passing=Passing((SLOW, SLOW, FAST), TICK),
    budgets={TICK: 3},
)
