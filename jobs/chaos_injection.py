"""Injects planned faults into a running cluster, keeps account of them, and heals it.

```
 plan ──▶ wait until it is due ──▶ aim ──▶ inject ──▶ look until what it hit serves again
               (looking meanwhile)                     (while the plan goes on)
```

The rules of what may overlap are in `chaos_plan`; what each kind does is in
`chaos_process_faults`, `chaos_group_faults`, `chaos_node_faults`, `chaos_link_faults` and
`chaos_replacements`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor

from chaos_account import Account
from chaos_changes import Changes
from chaos_cluster import Members, Nodes
from chaos_gaps import SECOND_NS, Disturbance
from chaos_group_faults import GroupFaults, LedCluster
from chaos_link_faults import LinkFaults
from chaos_node_faults import NodeFaults
from chaos_plan import (
    OF_ALL,
    OF_GROUPS,
    OF_LINKS,
    OF_PROCESSES,
    OF_RECONCILERS,
    FaultKind,
    PlannedFault,
)
from chaos_process_faults import ProcessFaults, RollingRestart
from chaos_replacements import Replacements
from chaos_voters import GroupVoters
from chaos_waiting import Waiting

FIRST_ROUND_S = 60.0
"""So much longer than it was to be a run may be for the kinds that have not come yet."""


class Injector:
    """Runs one plan against some groups of one cluster.

    Attributes:
        account: Of what was injected, and of what serves.
        replacements: Of members, where a fault needs a reconciler.
    """

    def __init__(
        self,
        cluster: LedCluster,
        members: Members,
        voters: GroupVoters,
        groups: Sequence[int],
        executor: Executor,
        *,
        kinds: Collection[FaultKind] = (),
        nodes: Nodes | None = None,
        is_ordered: bool = False,
        lease_s: float = 2.0,
        say: Callable[[str], None],
        on_tick: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is injected yet.

        Args:
            cluster: Whose masters are dropped, and whose groups are changed.
            members: Whose processes are signalled.
            voters: Of all groups.
            groups: Whose masters are aimed at, and whose members are changed.
            executor: Makes changes of members while other faults go on.
            kinds: Of faults.
            nodes: Of the members, where the run started them.
            is_ordered: Whether a reconciler runs, so that changes are to be ordered of it.
            lease_s: For how long a master believes in its lease.
            say: Told of every fault.
            on_tick: Called many times a second while the injector waits.
            clock_ns: Monotonic.
            sleep: Waits.
        """
        self._kinds = len(kinds)
        has_controller = FaultKind.KILL_CONTROLLER in kinds
        self.account = Account(
            members, voters, has_controller=has_controller, say=say, clock_ns=clock_ns
        )
        self._members = members
        self._clock_ns = clock_ns
        self._changes = Changes(self.account, cluster, executor, is_ordered=is_ordered)
        self._groups = GroupFaults(self.account, cluster, members, groups, self._changes)
        self._waiting = Waiting(self.account, sleep=sleep, on_tick=lambda: self._tick(on_tick))
        processes = ProcessFaults(self.account, members, groups)
        rolling = RollingRestart(self.account, cluster, members, groups, self._waiting)
        self._ways: dict[FaultKind, Callable[[PlannedFault], bool]] = {
            **dict.fromkeys(OF_PROCESSES, processes.hit),
            **dict.fromkeys(OF_GROUPS, self._groups.change),
            FaultKind.DROP_MASTER: self._groups.drop_master,
            FaultKind.RESTART_ALL: processes.hit_all,
            FaultKind.ROLLING_RESTART: rolling.run,
            FaultKind.WIPE_MEMBER: self._groups.wipe,
        }
        self.replacements: Replacements | None = None
        if OF_RECONCILERS & set(kinds):
            self.replacements = Replacements(
                *(self.account, cluster, members, groups, self._changes, self._waiting),
                is_replacing=FaultKind.REPLACE_MEMBER in kinds,
            )
            self._ways[FaultKind.REPLACE_MEMBER] = self.replacements.replace
            self._ways[FaultKind.KILL_CONTROLLER] = self.replacements.kill_controller
        self._node_faults: NodeFaults | None = None
        if nodes is not None:
            self._node_faults = NodeFaults(self.account, nodes, groups, self._waiting)
            if nodes.links is not None:
                links = LinkFaults(
                    *(self.account, nodes.links, groups, self._waiting),
                    lease_s=lease_s,
                    down=self._node_faults.down,
                )
                self._ways |= dict.fromkeys(OF_LINKS, links.hit)
            self._ways[FaultKind.KILL_NODE] = self._node_faults.kill_node
            self._ways[FaultKind.KILL_GCS] = self._node_faults.kill_gcs
            self._ways[FaultKind.SLOW_DISK] = self._node_faults.hit_disk
            self._ways[FaultKind.FULL_DISK] = self._node_faults.hit_disk

    @property
    def disturbances(self) -> list[Disturbance]:
        """What was injected, in order."""
        return self.account.disturbances

    def stay_out(self) -> list[str]:
        """What is wrong with members whose folders were deleted."""
        return self._groups.stay_out()

    def _tick(self, on_tick: Callable[[], None]) -> None:
        self._changes.settle()
        on_tick()

    def run(self, plan: Iterator[PlannedFault], until_ns: int) -> None:
        """Inject what the plan says until then; with no plan, only wait.

        Its first faults, one of each kind, may come up to `FIRST_ROUND_S` later.
        """
        for number, fault in enumerate(plan):
            is_of_first_round = number < self._kinds
            end_ns = until_ns + (int(FIRST_ROUND_S * SECOND_NS) if is_of_first_round else 0)
            due_ns = self._begin_of_wait() + int(fault.after_s * SECOND_NS)
            if due_ns >= end_ns:
                break
            self._waiting.until(due_ns)
            while not self._inject(fault):
                # Nobody may be hit now: too many are harmed, or their processes are not back.
                self._waiting.a_moment(end_ns)
                if self._clock_ns() >= end_ns:
                    return
            if fault.kind is FaultKind.RESTART_ALL:
                self._waiting.until_quiet(until_ns)
        self._waiting.until(until_ns)

    def _inject(self, fault: PlannedFault) -> bool:
        """Inject one fault; False where nobody may be hit now."""
        self._changes.settle()
        self.account.look()
        return self._ways[fault.kind](fault)

    def end(self) -> None:
        """Give no order again that is not done yet."""
        self._changes.is_over.set()

    def heal(self, patience_s: float) -> list[str]:
        """Continue what is stopped, start what is down, and wait until everything serves.

        Returns:
            What does not, and why; empty if all does.
        """
        if self._node_faults is not None:
            self._node_faults.heal()
        # Links among it: over them it is told what is stopped to go on.
        self._waiting.do_now()
        self._members.resume()
        self.account.end_waits()
        self._waiting.until_quiet(self._clock_ns() + int(patience_s * SECOND_NS))
        if self.account.is_quiet:
            return []
        late = f"within {patience_s:g} s of the last fault"
        missing = self.account.missing()
        if missing:
            return [f"not all roles served {late}: {missing}"]
        return [f"not over {late}: {'; '.join(self.account.unfinished())}"]

    def _begin_of_wait(self) -> int:
        last = self.account.last
        if last is None:
            return self._clock_ns()
        if last.kind in OF_ALL or last.kind is FaultKind.KILL_GCS:
            # What came of it should be seen before the next one.
            return last.end_ns if last.end_ns is not None else self._clock_ns()
        return last.start_ns
