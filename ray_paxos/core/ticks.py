"""Ticks: values without entries that a master proposes so that the group's own time goes on.

Machines know log time only, and log time moves with what is proposed: where nobody proposes
anything, nothing would ever end. So a learner tells its proposer when the first thing in the
group's state is due, and a master that has nothing else to propose by then proposes a tick, which
carries the time alone (R6). A group in which nothing is due has no ticks.

What is due ends in the first instance whose log time has come that far, before its entries. No tick
is proposed while such an instance is on its way. A machine that leaves something due behind, since
there is much of it, has the next tick once the last one is applied, `TICK_INTERVAL_NS` later.
"""

from __future__ import annotations

from ray_paxos.core.learner_messages import LearnerStatus
from ray_paxos.core.settings import MILLISECOND_NS

TICK_INTERVAL_NS = 10 * MILLISECOND_NS
"""Between two ticks at least: a machine in which something is due for ever fills no log."""


class Ticks:
    """When one reign has to propose a tick."""

    def __init__(self) -> None:
        """Nothing is due, and nothing was proposed."""
        self._due_log_time_ns: int | None = None
        self._applied_through = 0
        self._proposed_log_time_ns = -1
        self._proposed_instance = 0
        self._not_before_ns = 0

    def note_status(self, status: LearnerStatus) -> None:
        """The own learner told how far it is, and when something is due."""
        self._due_log_time_ns = status.due_log_time_ns
        self._applied_through = status.applied_through

    def note_proposed(self, instance_id: int, log_time_ns: int) -> None:
        """Whatever it was, it carries this log time."""
        self._proposed_instance = instance_id
        self._proposed_log_time_ns = max(self._proposed_log_time_ns, log_time_ns)

    def note_tick(self, now_ns: int) -> None:
        """What was proposed last was a tick."""
        self._not_before_ns = now_ns + TICK_INTERVAL_NS

    def due_ns(self, log_time_zero_ns: int) -> int | None:
        """When to propose a tick, by the proposer's clock; None for not.

        Args:
            log_time_zero_ns: What that clock shows at log time 0, by this reign's count.
        """
        due_log_time_ns = self._due_log_time_ns
        if due_log_time_ns is None:
            return None
        is_on_its_way = (
            self._proposed_instance > self._applied_through
            and self._proposed_log_time_ns >= due_log_time_ns
        )
        if is_on_its_way:
            return None
        return max(log_time_zero_ns + due_log_time_ns, self._not_before_ns)
