"""What can be judged of one process by itself: that it never goes back on its word.

The predicates are those of `core.invariants`, which tests and the random walk use, too.
"""

from __future__ import annotations

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.events import ApplyingStopped, Event, InvariantBroken
from ray_paxos.core.invariants import (
    acceptor_forgot,
    status_contradicts,
    votes_contradict,
    vouches_too_early,
)
from ray_paxos.core.learner_messages import LearnerStatus
from ray_paxos.core.messages import (
    Accepted,
    Address,
    BelowFloor,
    Envelope,
    HeartbeatConfirmed,
    Promise,
)
from ray_paxos.core.role import Role
from ray_paxos.testing.exhaustive.roles import GROUP
from ray_paxos.testing.trace import name_address
from ray_paxos.testing.violation import Violation

VOUCHING = (Promise, Accepted, HeartbeatConfirmed, BelowFloor)


def held_votes(role: Role) -> AcceptorState | None:
    """A copy of what an acceptor holds in memory; None of any other role."""
    if not isinstance(role, Acceptor):
        return None
    return AcceptorState(
        {
            group: GroupVotes(
                votes.replica_id,
                votes.configuration,
                votes.floor,
                votes.promise,
                votes.longest_lease_ms,
                dict(votes.votes),
            )
            for group, votes in role.state.groups.items()
        },
        dict(role.state.tombstones),
    )


def judge_acceptor(address: Address, before: AcceptorState, role: Role) -> None:
    """An acceptor handled something: its promise, floor and votes only rise (R2).

    Raises:
        Violation: They do not.
    """
    assert isinstance(role, Acceptor)
    wrong, votes = acceptor_forgot(before, role.state), role.state.groups.get(GROUP)
    if votes is not None:
        wrong = wrong or votes_contradict(votes)
    if wrong:
        raise Violation("R2", f"{name_address(address)}: {wrong}")


def judge_message(address: Address, envelope: Envelope, durable: AcceptorState) -> None:
    """A message leaves: an acceptor's vouches for nothing that is not durable (R3).

    Raises:
        Violation: It does; or it speaks of instances that its configuration does not govern (R5);
            or a learner's contradicts itself.
    """
    message = envelope.message
    if isinstance(message, LearnerStatus):
        wrong = status_contradicts(message)
        if wrong:
            raise Violation("R6", f"{name_address(address)} {wrong}")
        return
    votes = durable.groups.get(GROUP)
    if votes is not None:
        wrong = vouches_too_early(message, votes)
    elif isinstance(message, VOUCHING):
        wrong = f"answers for a group that it has not: {message}"
    else:
        wrong = ""
    if wrong:
        raise Violation("R3", f"{name_address(address)} {wrong}")
    if isinstance(message, Promise):
        judge_governed_from(address, message, envelope.config_id)


def judge_governed_from(address: Address, promise: Promise, config_id: int) -> None:
    """A promise leaves, with votes from some instance on.

    Raises:
        Violation: Its configuration does not govern all of them.
    """
    if promise.from_instance <= config_id:
        what = f"{name_address(address)} promises from {promise.from_instance} on, under the "
        raise Violation("R5", f"{what}configuration {config_id}")


def judge_event(address: Address, event: Event) -> None:
    """A role reports something: that it is broken?

    Raises:
        Violation: So it is.
    """
    match event:
        case InvariantBroken(what=what):
            raise Violation("invariant", f"{name_address(address)}: {what}")
        case ApplyingStopped(why=why):
            raise Violation("R12", f"{name_address(address)} stopped applying: {why}")
        case _:
            pass
