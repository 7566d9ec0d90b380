"""What must hold of the roles' states and messages, as plain predicates.

Tests and the simulator share them. Each returns what is wrong, for a person, or an empty text; none
changes anything, and none looks into a role: they judge what a role vouches for (its records, its
messages) against what is known to be durable.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray_paxos.core.acceptor_state import AcceptorState, GroupVotes
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.learner_messages import (
    LearnerStatus,
    VoteFloorRaised,
)
from ray_paxos.core.messages import (
    Accepted,
    BelowFloor,
    HeartbeatConfirmed,
    Message,
    Nack,
    Promise,
    Vote,
)


def is_below(promise: Ballot | None, ballot: Ballot) -> bool:
    """Whether a promise (None: none at all) is lower than a ballot."""
    return promise is None or promise < ballot


def votes_contradict(votes: GroupVotes) -> str:
    """What one group's part of an acceptor holds that cannot all be true.

    Returns:
        A promise below a vote, a vote below the floor, or a highest vote that is not.
    """
    for vote in votes.votes.values():
        if is_below(votes.promise, vote.ballot):
            return f"promise {votes.promise} below its vote at {vote.instance_id}, {vote.ballot}"
        if vote.instance_id < votes.floor:
            return f"vote at {vote.instance_id} below its floor {votes.floor}"
    highest = max([votes.floor - 1, *votes.votes])
    if votes.voted_through != highest:
        return f"voted through {votes.voted_through}; the highest vote or floor is {highest}"
    return ""


def acceptor_forgot(before: AcceptorState, after: AcceptorState) -> str:
    """What an acceptor once held durably and no longer does (R2).

    Args:
        before: What was durable.
        after: What was found later, for instance by opening the journal.

    Returns:
        The promise, floor, lease length, vote, group or tombstone that is lower or gone.
    """
    for group, held in before.groups.items():
        found = after.groups.get(group)
        if found is None:
            if after.tombstones.get(group, 0) < held.replica_id:
                return f"group {group} is gone without a tombstone"
            continue
        if found.replica_id != held.replica_id:
            if found.replica_id < held.replica_id:
                return f"group {group}: replica {held.replica_id} is now {found.replica_id}"
            if after.tombstones.get(group, 0) < held.replica_id:
                return f"group {group}: replica {held.replica_id} is gone without a tombstone"
            continue
        held_id, found_id = held.configuration.config_id, found.configuration.config_id
        if found_id < held_id:
            return f"group {group}: configuration {held_id} is now {found_id}"
        if held.promise is not None and is_below(found.promise, held.promise):
            return f"group {group}: promise {held.promise} is now {found.promise}"
        if found.floor < held.floor:
            return f"group {group}: vote floor {held.floor} is now {found.floor}"
        if found.longest_lease_ms < held.longest_lease_ms:
            lengths = f"{held.longest_lease_ms} ms is now {found.longest_lease_ms}"
            return f"group {group}: longest lease {lengths}"
        forgotten = votes_forgotten(held.votes, found)
        if forgotten:
            return f"group {group}: {forgotten}"
    for group, replica_id in before.tombstones.items():
        if after.tombstones.get(group, 0) < replica_id:
            return f"group {group}: tombstone {replica_id} is gone"
    return ""


def votes_forgotten(held: Mapping[int, Vote], found: GroupVotes) -> str:
    """A vote above the floor that is gone, older, or for another value at the same ballot."""
    for instance_id, vote in held.items():
        if instance_id < found.floor:
            continue
        now = found.votes.get(instance_id)
        if now is None:
            return f"vote at {instance_id}, {vote.ballot}, is gone"
        if now.ballot < vote.ballot:
            return f"vote at {instance_id}, {vote.ballot}, is now {now.ballot}"
        if now.ballot == vote.ballot and now.value != vote.value:
            return f"vote at {instance_id}, {vote.ballot}, is now for another value"
    return ""


def vouches_too_early(message: Message, durable: GroupVotes) -> str:
    """What an acceptor's message says and its disk does not (R3).

    Args:
        message: On its way out.
        durable: The group's votes as they would be found if the power went now.

    Returns:
        The promise, vote or floor that is not durable yet.
    """
    match message:
        case Promise(ballot=ballot, floor=floor):
            if is_below(durable.promise, ballot):
                return f"promises {ballot}; durable is {durable.promise}"
            if floor > durable.floor:
                return f"tells the vote floor {floor}; durable is {durable.floor}"
            return promise_is_wrong(message, durable)
        case Accepted(ballot=ballot, instance_id=instance_id):
            if is_below(durable.promise, ballot):
                return f"accepted {ballot}; the durable promise is {durable.promise}"
            vote = durable.votes.get(instance_id)
            if instance_id >= durable.floor and (vote is None or vote.ballot < ballot):
                return f"accepted {ballot} at {instance_id}; the durable vote is {vote}"
        case HeartbeatConfirmed(ballot=ballot) if is_below(durable.promise, ballot):
            return f"confirms {ballot}; the durable promise is {durable.promise}"
        case Nack(promised=promised) if promised is not None:
            if is_below(durable.promise, promised):
                return f"tells of the promise {promised}; durable is {durable.promise}"
        case BelowFloor(floor=floor) | VoteFloorRaised(floor=floor) if floor > durable.floor:
            return f"tells the vote floor {floor}; durable is {durable.floor}"
        case _:
            pass
    return ""


def promise_is_wrong(promise: Promise, durable: GroupVotes) -> str:
    """Votes that a promise hides, or tells without having them durably.

    A vote that was cast durably must be told in every promise of a higher ballot, unless it lies
    below the floor told, before the page or after it. Votes at the promised ballot or above may
    have been cast while the promise waited for its sync, and need not be told.
    """
    told = {vote.instance_id: vote for vote in promise.votes}
    first = max(promise.from_instance, promise.floor)
    end = promise.next_instance
    for instance_id, vote in durable.votes.items():
        if instance_id < first or (end is not None and instance_id >= end):
            continue
        if vote.ballot >= promise.ballot:
            continue
        found = told.get(instance_id)
        if found is None:
            return f"promises {promise.ballot} without its vote at {instance_id}, {vote.ballot}"
        if found.ballot < vote.ballot:
            return f"tells the vote {found.ballot} at {instance_id}; durable is {vote.ballot}"
    for instance_id, vote in told.items():
        if instance_id not in durable.votes and instance_id >= durable.floor:
            return f"tells a vote at {instance_id}, {vote.ballot}, that is not durable"
    return ""


def status_contradicts(status: LearnerStatus) -> str:
    """Positions of a learner that cannot all be true."""
    if status.applied_through > status.learned_through:
        return f"applied {status.applied_through}, learned only {status.learned_through}"
    if status.durable_through > status.learned_through:
        return f"durable {status.durable_through}, learned only {status.learned_through}"
    return ""
