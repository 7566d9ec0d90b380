"""What roles remember of slow commands, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ray_paxos.observability.report import Answer, RoleReport
from ray_paxos.observability.slow_commands import SlowInstance, SlowStep
from ray_paxos.observability.slow_report import slow_report
from ray_paxos.observability.slow_view import SlowCommand, SlowReport

MEMBERS = {"m1": 1, "m2": 2, "m3": 3}
AT_MS = 1_800_000_000_000
VOTERS = {"groups": {1: {"config_id": 0, "voters": [1, 2, 3]}}}


def slow(
    instance_id: int = 10,
    *,
    queue: float = 0.0,
    accept: float = 1.0,
    chosen: float = 1.0,
    votes: Mapping[int, float] | None = None,
    **changes: Any,
) -> SlowInstance:
    instance = SlowInstance(
        at_ms=AT_MS,
        group=1,
        instance_id=instance_id,
        commands=4,
        byte_count=200,
        machine="kv",
        total_ms=queue + accept + chosen,
        queue_ms=queue,
        accept_ms=accept,
        chosen_ms=chosen,
        votes_ms=dict(votes) if votes is not None else {1: 0.5, 2: accept},
    )
    return msgspec.structs.replace(instance, **changes)


def step(what: str, took: float, *instances: tuple[int, int], at: float = AT_MS) -> SlowStep:
    return SlowStep(at_ms=round(at), what=what, duration_ms=took, instances=instances)


def report(*instances: SlowInstance, steps: tuple[SlowStep, ...] = (), **more: Any) -> RoleReport:
    return RoleReport(
        at_ms=AT_MS, incarnation=1, slow_instances=instances, slow_steps=steps, **more
    )


def answers(
    *instances: SlowInstance,
    fsync: Mapping[str, tuple[SlowStep, ...]] | None = None,
    apply: Mapping[str, tuple[SlowStep, ...]] | None = None,
    master: str = "m1",
    **more: Any,
) -> dict[tuple[str, str], Answer]:
    """All roles of three members; the master remembers the instances."""
    found: dict[tuple[str, str], Answer] = {}
    for member in MEMBERS:
        own = instances if member == master else ()
        found[member, "proposer"] = ({}, report(*own, **(more if member == master else {})))
        found[member, "acceptor"] = ({}, report(steps=(fsync or {}).get(member, ())))
        found[member, "learner"] = (VOTERS, report(steps=(apply or {}).get(member, ())))
        found[member, "checkpointer"] = ({}, report())
    return found


def only(found: SlowReport) -> SlowCommand:
    (command,) = found.commands
    return command


def culprit(told: Mapping[tuple[str, str], Answer]) -> str:
    return only(slow_report(MEMBERS, told)).culprit
