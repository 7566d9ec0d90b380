"""Models of the lease: time passes, clocks differ, and two must not both be sure.

A leads and has its record applied. The clocks of A and B are slow and C's acceptor's is fast, each
by the full drift that the settings allow, and C's is the acceptor that both majorities share: that
is the worst case, in which a grant outlasts the belief in it by nothing. In one tick 2 ms pass for
A and B, and 3 ms for C. A lease is 4 ms long, two ticks of the holder; C keeps its word for 6 ms.

The processes of a member are one site, its acceptor among them. No accept arrives any more, and
nobody hears of a master but through C's acceptor. A refusal for the lease's sake is lost: B's
prepare stays in the network, and may arrive again later, which is what B would see to.
"""

from __future__ import annotations

from dataclasses import replace

from ray_paxos.core.client_messages import TransferMaster
from ray_paxos.core.learner_messages import (
    Applied,
    CatchUp,
    Chosen,
    LearnerStatus,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    Heartbeat,
    Nack,
    NackReason,
    Prepare,
    Promise,
    RoleName,
    TakeOver,
)
from ray_paxos.core.settings import (
    MILLISECOND_NS,
    AcceptorSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.testing.exhaustive.actions import Kill, Packet, Ring, Tick
from ray_paxos.testing.exhaustive.model import CRASH, NO_COST, Model, Passing, Possible, SiteSpec
from ray_paxos.testing.exhaustive.parts import (
    CONFIGURATION,
    FAR_NS,
    A,
    B,
    C,
    acceptor,
    any_of,
    between_rivals,
    kinds,
    learner,
    mail,
    proposer,
    take_over,
)
from ray_paxos.testing.exhaustive.roles import Recipe
from ray_paxos.testing.exhaustive.stage import Stage

TICK = "tick"
SLOW = Tick(2 * MILLISECOND_NS)
FAST = Tick(3 * MILLISECOND_NS)
RECIPE = Recipe(
    CONFIGURATION,
    (A, B, C),
    ProposerSettings(
        election_timeout_ns=10 * MILLISECOND_NS,
        lease_ns=6 * MILLISECOND_NS,
        heartbeat_interval_ns=2 * MILLISECOND_NS,
        retransmit_ns=FAR_NS,
        chosen_delay_ns=FAR_NS,
        transfer_timeout_ns=FAR_NS,
    ),
    AcceptorSettings(clock_drift_ppm=200_000, hearsay_ns=0),
    LearnerSettings(seal_age_ns=FAR_NS, catch_up_retry_ns=FAR_NS),
)
SITES = (
    SiteSpec("A", (proposer(A), learner(A), acceptor(A))),
    SiteSpec("B", (proposer(B), learner(B), acceptor(B))),
    SiteSpec("acceptor C", (acceptor(C),)),
)
SITES_APART = (
    SiteSpec("A", (proposer(A), acceptor(A))),
    *SITES[1:],
    SiteSpec("reader", (learner(A),)),
)
RING_A = Possible(0, Ring(proposer(A)), NO_COST)


def _told_otherwise(packet: Packet) -> bool:
    """Lose what tells of a master other than by the acceptors."""
    message, to = packet.envelope.message, packet.to.role
    if isinstance(message, Nack):
        return message.reason is NackReason.LEASED
    is_heartbeat = isinstance(message, Heartbeat)
    return is_heartbeat and (to is RoleName.PROPOSER or packet.to == learner(B))


LOST = any_of(kinds(Accept, Chosen), _told_otherwise, between_rivals)


def _lead(stage: Stage) -> None:
    """A leads and serves; its first round and its accept have given it a lease."""
    stage.deliver(TakeOver, proposer(A))
    stage.deliver(Prepare, acceptor(C))
    stage.deliver(Promise, proposer(A))
    stage.deliver(Accept, acceptor(C))
    stage.deliver(Accepted, proposer(A))
    stage.lose(TakeOver, proposer(A))
    stage.lose(Prepare, acceptor(C))
    stage.lose(Promise, proposer(A))
    stage.lose(Accepted, proposer(A))


def _lead_and_be_asked_again(stage: Stage) -> None:
    """The same; and another message is on its way that makes A stand once more."""
    _lead(stage)
    stage.mail.append(take_over(A, 2))


def _lead_apart(stage: Stage) -> None:
    """The same, where A's learner answers through the network; and A is about to hand over."""
    stage.deliver(TakeOver, proposer(A))
    stage.deliver(CatchUp, learner(A))
    stage.deliver(LearnerStatus, proposer(A))
    stage.lose(LearnerStatus, proposer(A))
    stage.deliver(Prepare, acceptor(C))
    stage.deliver(Promise, proposer(A))
    stage.deliver(Accept, acceptor(C))
    stage.deliver(Accepted, proposer(A))
    stage.deliver(Chosen, learner(A))
    stage.deliver(LearnerStatus, proposer(A))
    stage.deliver(TransferMaster, proposer(A))
    stage.lose(TransferMaster, proposer(A))
    stage.lose(LearnerStatus, proposer(A))
    stage.lose(CatchUp, learner(A))
    stage.lose(TakeOver, proposer(A))
    stage.lose(Prepare, acceptor(C))
    stage.lose(Promise, proposer(A))
    stage.lose(Accepted, proposer(A))


GRANTS = Model(
    name="grants",
    purpose="A's lease is renewed or runs out, and B is promised the lead; four ticks",
    recipe=RECIPE,
    sites=SITES,
    possible=(RING_A,),
    passing=Passing((SLOW, SLOW, FAST), TICK),
    budgets={TICK: 4},
    mail=(take_over(A, 1), take_over(B, 1)),
    prelude=_lead,
    is_lost=LOST,
    is_leased=True,
)

FORGETFUL = replace(
    GRANTS,
    name="forgetful",
    purpose="C's acceptor is killed, once, and forgets what it granted; three ticks",
    possible=(RING_A, Possible(2, Kill(acceptor(C)), CRASH)),
    budgets={TICK: 3, CRASH: 1},
)

HANDOVER = replace(
    GRANTS,
    name="handover",
    purpose="A hands over, and B is promised the lead; four ticks",
    mail=(
        take_over(A, 1),
        take_over(B, 3),
        mail(Address(900, RoleName.CLIENT), proposer(A), TransferMaster(1, 0)),
    ),
)

AGAIN = replace(
    HANDOVER,
    name="again",
    purpose="A hands over, and leads again while its release is on its way; two ticks",
    budgets={TICK: 2},
    prelude=_lead_and_be_asked_again,
)

NOTICES = replace(
    HANDOVER,
    name="notices",
    purpose="A hands over; what its proposer tells its learner overtakes itself; four ticks",
    sites=SITES_APART,
    passing=Passing((SLOW, SLOW, FAST, SLOW), TICK),
    prelude=_lead_apart,
    is_lost=any_of(LOST, kinds(Applied, Heartbeat)),
)

LEASE = (GRANTS, FORGETFUL, HANDOVER, AGAIN, NOTICES)
