"""Models of changes of who votes: what is voted, promised and forgotten around membership entries.

All processes of a member are one site here, unless the model says otherwise; C leads, and what was
chosen before the walk begins is said by the prelude. As in `prepare_models` leases are off and
deadlines never come, but a proposer that was late, or whose configuration changed, stands again by
itself. A refusal that is lost is a slow proposer: where nobody has to be taught they are lost, and
so is whatever a learner asks of another. What each model has to get to is in `situations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint_messages import ChainRequest
from ray_paxos.core.learner_messages import (
    CatchUp,
    Chosen,
    LearnerStatus,
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Heartbeat,
    Nack,
    Prepare,
    PreVote,
    Promise,
    TakeOver,
)
from ray_paxos.core.values import MembershipKind
from ray_paxos.testing.exhaustive.actions import CutPower, Kill, LoseLog, Packet, Sync
from ray_paxos.testing.exhaustive.model import CRASH, NO_COST, Model, Possible, SiteSpec
from ray_paxos.testing.exhaustive.parts import (
    A,
    B,
    C,
    D,
    Loss,
    acceptor,
    accepts_above,
    any_of,
    apart,
    but_to,
    change,
    command,
    configuration,
    kinds,
    learner,
    mail,
    passive,
    proposer,
    take_over,
    whole,
)
from ray_paxos.testing.exhaustive.prepare_models import RECIPE, no_heartbeats
from ray_paxos.testing.exhaustive.stage import Stage

ADD, PROMOTE, DEMOTE, REMOVE = MembershipKind


def asked_by_a(round: int) -> Packet:
    """C is asked to lead, by A, which gives up a ballot of that round."""
    return mail(proposer(A), proposer(C), TakeOver(Ballot(round, A, 1)))


def lead(stage: Stage, master: int, voters: Sequence[int], heard: Sequence[int]) -> None:
    """A member leads, by these acceptors, and its record is chosen.

    Args:
        stage: Where.
        master: Who is asked to lead.
        voters: Who votes, beside the acceptor that is one site with the master.
        heard: Whose learners tell how far they are.
    """
    stage.order(asked_by_a(1) if master == C else take_over(master, 1))
    voting = [acceptor(member_id) for member_id in voters]
    stage.deliver(Prepare, *voting)
    stage.deliver(Promise, proposer(master))
    stage.deliver(Accept, *voting)
    stage.deliver(Accepted, proposer(master))
    stage.deliver(Heartbeat, *(learner(member_id) for member_id in heard))
    stage.deliver(LearnerStatus, proposer(master))
    stage.lose_all()


def statuses_but(member_id: int, master: int) -> Loss:
    """Lose what learners tell of how far they are, but for one's word to one master."""

    def loss(packet: Packet) -> bool:
        is_kept = (packet.envelope.sender, packet.to) == (learner(member_id), proposer(master))
        return isinstance(packet.envelope.message, LearnerStatus) and not is_kept

    return loss


# What a proposer would learn of its refusals, and a learner of what it missed.
untaught = kinds(Nack, CatchUp, LearnRequest, LearnReply, ChainRequest)
# Nobody is told to wait before he asks for more: how long would be another state each time.
THREE = replace(RECIPE, learner=replace(RECIPE.learner, catch_up_bytes_per_s=10**18))
FOUR = replace(THREE, configuration=configuration((A, B, C), (D,)), members=(A, B, C, D))


def _lead_by_b(stage: Stage) -> None:
    """C leads, by B's acceptor and its own; A is told nothing."""
    lead(stage, C, [B], [A, B])
    stage.mail += [change(C, REMOVE, B), take_over(A, 3)]


REMOVAL = Model(
    name="removal",
    purpose="C removes B; A is not told, and asks B, until B forgets",
    recipe=THREE,
    sites=(SiteSpec("A", whole(A)), SiteSpec("B", passive(B)), SiteSpec("C", whole(C))),
    prelude=_lead_by_b,
    is_lost=any_of(
        no_heartbeats,
        kinds(Nack, LearnRequest, ChainRequest),
        but_to([learner(B)], LearnerStatus),
        apart(A, C, 0),
        accepts_above(3),
    ),
)


def _promote_d(stage: Stage) -> None:
    """A has stood, and is not heard. C promotes D, by B's acceptor and its own, and D learns it."""
    lead(stage, C, [B], [A, B, D])
    stage.order(take_over(A, 3))
    stage.order(change(C, PROMOTE, D))
    stage.deliver(Accept, acceptor(B))
    stage.deliver(Accepted, proposer(C))
    stage.deliver(Chosen, learner(D))
    stage.lose(Accept, acceptor(B))
    stage.lose(Accepted, proposer(C))
    stage.lose(Chosen, learner(D))
    stage.mail.append(change(C, REMOVE, B, expected=2))


STALE = Model(
    name="stale",
    purpose="D votes, and B is removed; a prepare that A sent before comes late to B; two changes",
    recipe=FOUR,
    sites=(
        SiteSpec("A", whole(A)),
        SiteSpec("B", passive(B)),
        SiteSpec("C", whole(C)),
        SiteSpec("D", passive(D)),
    ),
    prelude=_promote_d,
    is_lost=any_of(
        but_to([learner(D)], Heartbeat),
        statuses_but(D, C),
        untaught,
        kinds(PreVote),
        apart(A, C, 0, 2, 4),
        accepts_above(5),
    ),
)


def _lead_by_a(stage: Stage) -> None:
    """C leads, by A's acceptor and its own; B has promised nobody anything."""
    lead(stage, C, [A], [A, B, D])
    stage.mail += [change(C, PROMOTE, D), change(C, REMOVE, A, expected=2), take_over(B, 3)]


REPLACED = Model(
    name="replaced",
    purpose="C leads by A; D takes A's place; B, which never promised C anything, stands",
    recipe=FOUR,
    sites=(
        SiteSpec("A", passive(A)),
        SiteSpec("B", whole(B)),
        SiteSpec("C", whole(C)),
        SiteSpec("D", passive(D)),
    ),
    prelude=_lead_by_a,
    is_lost=any_of(
        but_to([learner(D)], Heartbeat),
        statuses_but(D, C),
        untaught,
        kinds(PreVote),
        apart(A, B, 0, 2),
        apart(B, C, 0, 2),
        accepts_above(5),
    ),
)


def _propose_in_vain(stage: Stage) -> None:
    """A leads, and proposes in three instances, when its own acceptor has promised B.

    Nobody has voted for that, and the last one may come late to C. B leads by A's acceptor.
    """
    stage.order(take_over(A, 1))
    stage.deliver(Prepare, acceptor(B))
    stage.deliver(Promise, proposer(A))
    stage.deliver(Accept, acceptor(B))
    for client in range(3):
        stage.order(command(A, client))
    stage.order(take_over(B, 3))
    stage.deliver(Prepare, acceptor(A))
    stage.deliver(Accepted, proposer(A))
    stage.deliver(Chosen, learner(B), learner(C), learner(D))
    late = [packet for packet in stage.found(Accept, acceptor(C)) if accepts_above(3)(packet)]
    stage.deliver(Promise, proposer(B))
    stage.deliver(Accept, acceptor(A))
    stage.deliver(Accepted, proposer(B))
    stage.deliver(Chosen, learner(C), learner(D))
    stage.deliver(LearnerStatus, proposer(B))
    stage.lose_all()
    stage.mail += [*late, change(B, PROMOTE, D), command(B)]


LATE = Model(
    name="late",
    purpose="B promotes D, and has a command; an accept that A sent before comes late to C",
    # A value a command, and all are told of it at once.
    recipe=replace(FOUR, proposer=replace(FOUR.proposer, batch_bytes_max=1)),
    sites=(
        SiteSpec("A", whole(A)),
        SiteSpec("B", whole(B)),
        SiteSpec("C", passive(C)),
        SiteSpec("D", passive(D)),
    ),
    prelude=_propose_in_vain,
    is_lost=any_of(
        no_heartbeats,
        kinds(LearnerStatus, PreVote),
        untaught,
        apart(B, C, 0),
        accepts_above(4),
    ),
)


def _replace_b(stage: Stage, *, c_stands: bool = False) -> None:
    """A has stood, and is not heard. B and C have chosen a command; D takes B's place."""
    lead(stage, C, [B], [A, B, D])
    stage.order(command(C))
    stage.deliver(Accept, acceptor(B))
    stage.deliver(Accepted, proposer(C))
    stage.lose_all()
    stage.order(change(C, PROMOTE, D))
    stage.deliver(Accept, acceptor(B))
    stage.deliver(Accepted, proposer(C))
    stage.deliver(Chosen, learner(B), learner(D))
    stage.deliver(Prepare, acceptor(B), acceptor(D))
    stage.deliver(Promise, proposer(C))
    stage.deliver(Accept, acceptor(B), acceptor(D))
    stage.deliver(Accepted, proposer(C))
    stage.deliver(Heartbeat, learner(B), learner(D))
    stage.deliver(LearnerStatus, proposer(C))
    stage.lose_all()
    stage.order(change(C, REMOVE, B, expected=3))
    stage.deliver(Accept, acceptor(B), acceptor(D))
    stage.deliver(Accepted, proposer(C))
    stage.deliver(Chosen, learner(B), learner(D))
    # As of a proposer that takes a configuration without the log up to it.
    below = Prepare(Ballot(9, A, 1), 2)
    stage.mail = [
        *stage.found(CatchUp, learner(C), learner(D)),
        *(stage.found(Prepare, acceptor(D)) if c_stands else ()),
        take_over(A, 4),
        mail(proposer(A), acceptor(D), below, config_id=5),
    ]


TAUGHT = Model(
    name="taught",
    purpose="D has taken B's place while A was away; A stands, is told that it is late, and learns",
    recipe=FOUR,
    sites=(
        SiteSpec("A", whole(A)),
        SiteSpec("B", passive(B)),
        SiteSpec("C", whole(C)),
        SiteSpec("D", passive(D)),
    ),
    prelude=_replace_b,
    is_lost=any_of(
        no_heartbeats,
        but_to([proposer(A)], Nack),
        but_to([learner(B)], LearnerStatus),
        accepts_above(6),
    ),
)


def _lead_two(stage: Stage) -> None:
    """A leads, by B's acceptor and its own, and has heard of both others."""
    lead(stage, A, [B], [B, C])
    stage.mail += [change(A, PROMOTE, C), take_over(B, 3)]


UNSEALED = Model(
    name="unsealed",
    purpose="A promotes C; sealing takes time, and learners lose what is not sealed; B stands",
    recipe=replace(THREE, configuration=configuration((A, B), (C,))),
    sites=(
        SiteSpec("A", whole(A), seals_at_once=False),
        SiteSpec("B", whole(B), seals_at_once=False),
        SiteSpec("C", passive(C), seals_at_once=False),
    ),
    possible=tuple(
        possible
        for site, member_id in enumerate((A, B, C))
        for possible in (
            Possible(site, Sync(learner(member_id)), NO_COST),
            Possible(site, CutPower(learner(member_id)), CRASH),
        )
    ),
    budgets={CRASH: 1},
    prelude=_lead_two,
    is_lost=any_of(
        no_heartbeats,
        kinds(LearnerStatus, PreVote),
        untaught,
        apart(A, B, 2),
        accepts_above(3),
    ),
)


def _promote_c(stage: Stage) -> None:
    """A leads, by B's acceptor and its own, and promotes C, which is told; B is not."""
    lead(stage, A, [B], [B, C])
    stage.order(change(A, PROMOTE, C))
    stage.deliver(Accept, acceptor(B))
    stage.deliver(Accepted, proposer(A))
    stage.deliver(Chosen, learner(C))
    stage.lose(Chosen, learner(B))
    stage.lose(Accept, acceptor(B))
    # As of A's proposer, once its acceptor has refused it by the entry.
    refused = mail(proposer(A), learner(A), CatchUp(2, (A,)))
    stage.mail += [take_over(B, 3), refused]


CUT_SHORT = Model(
    name="cut short",
    purpose="A promotes C, and leads on by C; B stands as before; damage takes A's log",
    recipe=replace(THREE, configuration=configuration((A, B), (C,))),
    sites=(SiteSpec("A", whole(A)), SiteSpec("B", whole(B)), SiteSpec("C", passive(C))),
    possible=(Possible(0, LoseLog(learner(A)), CRASH),),
    budgets={CRASH: 1},
    prelude=_promote_c,
    is_lost=any_of(
        no_heartbeats,
        kinds(LearnerStatus, PreVote, Nack, LearnRequest, LearnReply, ChainRequest),
        accepts_above(3),
    ),
)


def _lead_with_two_orders(stage: Stage) -> None:
    """A leads, by B's acceptor and its own, and has heard of both others. Two are to be demoted."""
    lead(stage, A, [B], [B, C])
    stage.mail += [change(A, DEMOTE, C), take_over(B, 3), change(B, DEMOTE, A)]


RIVALS = Model(
    name="rivals",
    purpose="A demotes C, and B stands, and demotes A: of two changes of one configuration one is",
    recipe=THREE,
    sites=(SiteSpec("A", whole(A)), SiteSpec("B", whole(B)), SiteSpec("C", passive(C))),
    prelude=_lead_with_two_orders,
    is_lost=any_of(
        but_to([learner(A), learner(C)], Heartbeat),
        but_to([proposer(B)], LearnerStatus),
        untaught,
        kinds(PreVote),
        apart(A, B, 0),
        accepts_above(4),
    ),
)

MEMBERSHIP = (REMOVAL, STALE, REPLACED, LATE, TAUGHT, UNSEALED, CUT_SHORT, RIVALS)

WIDE_MEMBERSHIP = (
    replace(
        REPLACED,
        name="wide replaced",
        purpose="as replaced, and damage takes C's log, once; B may ask C as before",
        is_lost=any_of(
            but_to([learner(D)], Heartbeat),
            statuses_but(D, C),
            untaught,
            kinds(PreVote),
            apart(A, B, 0, 2),
            accepts_above(5),
        ),
        possible=(Possible(2, LoseLog(learner(C)), CRASH),),
        budgets={CRASH: 1},
    ),
    replace(
        REMOVAL,
        name="wide removal",
        purpose="as removal, and B's acceptor or learner is killed, once",
        possible=(Possible(1, Kill(acceptor(B)), CRASH), Possible(1, Kill(learner(B)), CRASH)),
        budgets={CRASH: 1},
    ),
    replace(
        STALE,
        name="wide stale",
        purpose="as stale, and A is told that it is late, and learns",
        is_lost=any_of(
            but_to([learner(D)], Heartbeat),
            statuses_but(D, C),
            but_to([proposer(A)], Nack),
            kinds(PreVote, ChainRequest),
            apart(A, C, 0, 2, 4),
            accepts_above(5),
        ),
    ),
    replace(
        TAUGHT,
        name="wide taught",
        purpose="as taught, and C stands under the latest configuration, too",
        prelude=partial(_replace_b, c_stands=True),
    ),
)
"""For the nights."""
