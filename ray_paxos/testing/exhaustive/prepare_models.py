"""Models of two rival proposers: who is promised what, and what is chosen.

Proposer and learner of A, of B and the three acceptors are the real ones; C's proposer and learner
only exist in the mail. A proposer and its own learner are one site. Heartbeats are lost here, and
leases are off. Which of the rivals is quicker, and by how much, is what the walk decides; deadlines
come when it wants them to.
"""

from __future__ import annotations

from dataclasses import replace

from ray_paxos.core.client_messages import OpenSession
from ray_paxos.core.learner_messages import RaiseVoteFloor
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Heartbeat,
    HeartbeatConfirmed,
    Prepare,
    Promise,
    TakeOver,
)
from ray_paxos.core.settings import (
    MILLISECOND_NS,
    AcceptorSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.testing.exhaustive.actions import CutPower, Fire, Kill, Sync
from ray_paxos.testing.exhaustive.model import CRASH, NO_COST, Model, Possible, SiteSpec
from ray_paxos.testing.exhaustive.parts import (
    CONFIGURATION,
    FAR_NS,
    A,
    B,
    C,
    acceptor,
    accepts_above,
    any_of,
    between_rivals,
    command,
    kinds,
    learner,
    mail,
    proposer,
    take_over,
)
from ray_paxos.testing.exhaustive.roles import Recipe
from ray_paxos.testing.exhaustive.stage import Stage

# Nothing is sent twice: what was sent once can arrive for ever.
RECIPE = Recipe(
    CONFIGURATION,
    (A, B, C),
    ProposerSettings(
        election_timeout_ns=1_000 * MILLISECOND_NS,
        lease_ns=0,
        heartbeat_interval_ns=FAR_NS,
        retransmit_ns=FAR_NS,
        chosen_delay_ns=FAR_NS,
    ),
    AcceptorSettings(),
    LearnerSettings(seal_age_ns=FAR_NS, catch_up_retry_ns=FAR_NS),
)
RIVALS = (SiteSpec("A", (proposer(A), learner(A))), SiteSpec("B", (proposer(B), learner(B))))
SITES = (*RIVALS, *(SiteSpec(f"acceptor {m}", (acceptor(m),)) for m in (A, B, C)))
SITES_THAT_SYNC = (*RIVALS, *(replace(site, syncs_at_once=False) for site in SITES[2:]))
no_heartbeats = kinds(Heartbeat, HeartbeatConfirmed)


def _lead(stage: Stage) -> None:
    """A leads, and has had its record chosen at instance 1 by its own acceptor and C's."""
    stage.deliver(TakeOver, proposer(A))
    stage.deliver(Prepare, acceptor(A), acceptor(C))
    stage.deliver(Promise, proposer(A))
    stage.deliver(Accept, acceptor(A), acceptor(C))
    stage.deliver(Accepted, proposer(A))
    stage.deliver(OpenSession, proposer(A))
    stage.lose(OpenSession, proposer(A))


BALLOTS = Model(
    name="ballots",
    purpose="A and B stand, once each; one instance; everybody reaches everybody",
    recipe=RECIPE,
    sites=SITES,
    mail=(take_over(A, 1), take_over(B, 1)),
    is_lost=any_of(no_heartbeats, accepts_above(1)),
)

SECOND = Model(
    name="second",
    purpose="A stands twice and B once; two instances",
    recipe=RECIPE,
    sites=SITES,
    mail=(take_over(A, 1), take_over(B, 1), take_over(A, 2)),
    is_lost=any_of(no_heartbeats, accepts_above(2), between_rivals),
)

COMMANDS = Model(
    name="commands",
    purpose="A and B stand, once each, and a client of A has a command; three instances",
    recipe=RECIPE,
    sites=SITES,
    mail=(take_over(A, 1), take_over(B, 1), command(A)),
    is_lost=any_of(no_heartbeats, accepts_above(3), between_rivals),
)

FLOORS = Model(
    name="floors",
    purpose="vote floors rise over instance 1, which B has yet to learn; two instances",
    recipe=RECIPE,
    sites=SITES,
    mail=(
        take_over(A, 1),
        take_over(B, 1),
        command(A),
        mail(learner(A), acceptor(A), RaiseVoteFloor(2)),
        mail(learner(C), acceptor(C), RaiseVoteFloor(2)),
    ),
    prelude=_lead,
    is_lost=any_of(no_heartbeats, accepts_above(2), between_rivals),
)

POWER = Model(
    name="power",
    purpose="syncs take time, and one acceptor loses power with unsynced records",
    recipe=RECIPE,
    sites=SITES_THAT_SYNC,
    possible=tuple(
        possible
        for site, member_id in ((2, A), (3, B), (4, C))
        for possible in (
            Possible(site, Sync(acceptor(member_id)), NO_COST),
            Possible(site, CutPower(acceptor(member_id)), CRASH),
        )
    ),
    budgets={CRASH: 1},
    mail=(take_over(A, 1), take_over(B, 1)),
    is_lost=any_of(no_heartbeats, accepts_above(1), between_rivals),
)

RESTART = Model(
    name="restart",
    purpose="A's proposer or learner is killed, once, and A stands again",
    recipe=RECIPE,
    sites=SITES,
    possible=(
        Possible(0, Kill(proposer(A)), CRASH),
        Possible(0, Kill(learner(A)), CRASH),
    ),
    budgets={CRASH: 1},
    mail=(take_over(A, 1), take_over(B, 1)),
    is_lost=any_of(no_heartbeats, accepts_above(1), between_rivals),
)

ELECTIONS = Model(
    name="elections",
    purpose="A and B stand by themselves, with pre-votes; one instance",
    recipe=RECIPE,
    sites=SITES,
    possible=(Possible(0, Fire(proposer(A)), "A"), Possible(1, Fire(proposer(B)), "B")),
    budgets={"A": 2, "B": 1},
    is_lost=any_of(no_heartbeats, accepts_above(1), between_rivals),
)

PREPARE = (BALLOTS, SECOND, COMMANDS, FLOORS, POWER, RESTART, ELECTIONS)

WIDE = (
    replace(
        BALLOTS,
        name="wide ballots",
        purpose="as ballots, with two instances",
        is_lost=any_of(no_heartbeats, accepts_above(2)),
    ),
    replace(
        FLOORS,
        name="wide floors",
        purpose="as floors, and everybody reaches everybody",
        is_lost=any_of(no_heartbeats, accepts_above(2)),
    ),
    replace(
        POWER,
        name="wide power",
        purpose="as power, and everybody reaches everybody",
        is_lost=any_of(no_heartbeats, accepts_above(1)),
    ),
)
"""More than a run exhausts: for the nights."""
