"""The learner and the checkpointer actors, with `roles: separate`; see their shells."""

from __future__ import annotations

from typing import Any, ClassVar

import ray

from ray_paxos.actors.checkpointer_shell import CheckpointerShell
from ray_paxos.actors.learner_shell import LearnerShell
from ray_paxos.actors.role import (
    CONTROL,
    GROUPS,
    READS,
    WAITER_THREADS,
    WAITERS,
    RoleActor,
    own_handle,
    own_node_id,
)
from ray_paxos.actors.shell import Clock, boot_time_ns


class LearnerActor(RoleActor[LearnerShell]):
    """Learns, applies and answers reads for one member, in all its groups."""

    shell_class = LearnerShell
    # One thread for reads: they share the turn anyway, and the own call that measures how long they
    # wait has to wait behind them.
    concurrency_groups: ClassVar[dict[str, int]] = {
        **GROUPS,
        READS: 1,
        WAITERS: WAITER_THREADS,
    }

    def __init__(self, spec: bytes, member: str, clock: Clock = boot_time_ns) -> None:
        """As of every role; it also measures how long its reads wait."""
        super().__init__(spec, member, clock)
        self._shell.measure_by(lambda: own_handle().came_back.remote())

    @ray.method(concurrency_group=READS)
    def query(self, batch: bytes) -> bytes:
        """Answer a client's reads; as `deliver`."""
        return self._switchboard.deliver(self._shell.role, batch)

    @ray.method(concurrency_group=WAITERS)
    def exchange_queries(self, line: int, batch: bytes) -> bytes:
        """Take queries that may wait, as `LearnerShell.exchange_queries`."""
        return self._shell.exchange_queries(line, batch)

    @ray.method(concurrency_group=READS)
    def came_back(self) -> None:
        """The actor's own call, by which it measures how long reads wait."""
        self._shell.came_back()

    @ray.method(concurrency_group=CONTROL)
    def digest(self, group: int) -> tuple[int, str]:
        """State of one group, as `LearnerShell.digest`."""
        return self._shell.digest(group)

    @ray.method(concurrency_group=CONTROL)
    def configuration(self, group: int) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
        """Members of one group, as `LearnerShell.configuration`."""
        return self._shell.configuration(group)

    @ray.method(concurrency_group=CONTROL)
    def memberships(self) -> dict[str, Any]:
        """Who has which group, as `LearnerShell.memberships`, and the node that this runs on."""
        return {**self._shell.memberships(), "node_id": own_node_id()}


class CheckpointerActor(RoleActor[CheckpointerShell]):
    """Makes checkpoints, merges, scrubs, archives and serves others, for one member."""

    shell_class = CheckpointerShell
