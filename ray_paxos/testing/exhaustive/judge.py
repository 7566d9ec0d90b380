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
    Address,
    Message,
)
from ray_paxos.core.role import Role
from ray_paxos.testing.exhaustive.roles import GROUP
from ray_paxos.testing.trace import name_address
from ray_paxos.testing.violation import Violation


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
        }
    )


def judge_acceptor(address: Address, before: AcceptorState, role: Role) -> None:
    """An acceptor handled something: its promise, floor and votes only rise (R2).

    Raises:
        Violation: They do not.
    """
    assert isinstance(role, Acceptor)
    wrong = acceptor_forgot(before, role.state) or votes_contradict(role.state.groups[GROUP])
    if wrong:
        raise Violation("R2", f"{name_address(address)}: {wrong}")


def judge_message(address: Address, message: Message, durable: AcceptorState) -> None:
    """A message leaves: an acceptor's vouches for nothing that is not durable (R3).

    Raises:
        Violation: It does; or a learner's contradicts itself.
    """
    if isinstance(message, LearnerStatus):
        wrong = status_contradicts(message)
        if wrong:
            raise Violation("R6", f"{name_address(address)} {wrong}")
        return
    wrong = vouches_too_early(message, durable.groups[GROUP])
    if wrong:
        raise Violation("R3", f"{name_address(address)} {wrong}")


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
