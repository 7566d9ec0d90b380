"""What there is to say of a command's way, as spans; pure.

```
 client ── ray_paxos.propose ───────────────────────────────────────────────────────
   master   └ ray_paxos.proposer ─────────────────────────────────────────────────
                ├ ray_paxos.queue ────┐
                │                     ├ ray_paxos.accept ───┐
   voters       ├──────────────────────── ray_paxos.acceptor
                │                                           ├ ray_paxos.apply ────┐
   master       └────────────────────────────────────────────── ray_paxos.learner
```

Times of roles are on the clock of their process, and here on the wall clock, which people read: a
caller converts them all by one difference, so that what a span holds lies within it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ray_paxos.core.events import CommandsAnswered
from ray_paxos.core.intake import Request
from ray_paxos.core.values import CommandBatch

Attribute: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Attribute]

CLUSTER = "ray_paxos.cluster"
GROUP = "ray_paxos.group"
MEMBER = "ray_paxos.member"
MACHINE = "ray_paxos.machine"
COMMANDS = "ray_paxos.commands"
INSTANCE_ID = "ray_paxos.instance_id"
LAST_INSTANCE_ID = "ray_paxos.last_instance_id"
ERRORS = "ray_paxos.errors"
CANCELLED = "ray_paxos.cancelled"
BYTES = "ray_paxos.bytes"
REQUESTS = "ray_paxos.requests"
INSTANCES = "ray_paxos.instances"
RECORDS = "ray_paxos.records"
FSYNC_MS = "ray_paxos.fsync_ms"
OUTCOME = "ray_paxos.outcome"

PROPOSE = "ray_paxos.propose"
PROPOSE_ASYNC = "ray_paxos.propose_async"
PROPOSE_MANY = "ray_paxos.propose_many"
PROPOSE_MANY_ASYNC = "ray_paxos.propose_many_async"
PROPOSER = "ray_paxos.proposer"
QUEUE = "ray_paxos.queue"
ACCEPT = "ray_paxos.accept"
APPLY = "ray_paxos.apply"
ACCEPTOR = "ray_paxos.acceptor"
LEARNER = "ray_paxos.learner"
VOTE = "vote"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened within a span.

    Attributes:
        name: What.
        at_ns: When, on the wall clock.
        attributes: What there is to say of it.
    """

    name: str
    at_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanData:
    """A span that is over.

    Attributes:
        name: Of what was done; few are in use.
        start_ns: When it began, on the wall clock.
        end_ns: When it was over.
        attributes: What there is to say of it.
        moments: What happened within it.
    """

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes = field(default_factory=dict)
    moments: tuple[Moment, ...] = ()


def hops_of(
    answered: CommandsAnswered, request: Request, wall_ns: int, names: Mapping[int, str]
) -> tuple[SpanData, ...]:
    """Where a request's time went at its master.

    Args:
        answered: The instance that held it.
        request: One of those that are answered.
        wall_ns: What to add to a time of the master's clock for the time on the wall clock.
        names: Of the members, by member_id; one without is told by its id.

    Returns:
        `ray_paxos.queue`, until the accepts left; `ray_paxos.accept`, until the last vote of a
        majority was in, with a moment for each vote; `ray_paxos.apply`, until the results were
        here. Each begins where the one before ends.
    """
    opened_ns, chosen_ns = answered.opened_ns + wall_ns, answered.chosen_ns + wall_ns
    instance: Attributes = {INSTANCE_ID: answered.instance_id}
    votes = tuple(
        Moment(VOTE, at_ns + wall_ns, {MEMBER: names.get(member_id, str(member_id))})
        for member_id, at_ns in answered.votes
    )
    shared = {**instance, REQUESTS: len(answered.requests), BYTES: answered.byte_count}
    return (
        SpanData(QUEUE, request.arrived_ns + wall_ns, opened_ns),
        SpanData(ACCEPT, opened_ns, chosen_ns, shared, votes),
        SpanData(APPLY, chosen_ns, answered.answered_ns + wall_ns, instance),
    )


def commands_in(batches: tuple[CommandBatch, ...]) -> Attributes:
    """What there is to say of a request's commands."""
    machine = batches[0].machine if batches else ""
    return {MACHINE: machine, COMMANDS: sum(len(batch.commands) for batch in batches)}
