"""Faults of nodes, disks and the GCS, of a Ray cluster that the run started itself."""

from __future__ import annotations

from collections.abc import Sequence

from chaos_account import Account, OpenFault, of_member
from chaos_cluster import Nodes
from chaos_gaps import SECOND_NS
from chaos_plan import FaultKind, PlannedFault, choose_group, choose_member
from chaos_waiting import Waiting

GCS_FACTOR = 4.0
"""The GCS stays away for so many times as long as a process is paused: up to 24 s, of the 60 s
after which Ray's other processes give up."""
DISK_FACTOR = 2.0
FREEZE_S = (0.1, 2.0)
"""For how long at a time a slow disk takes nothing."""


class NodeFaults:
    """What happens to nodes."""

    def __init__(
        self, account: Account, nodes: Nodes, groups: Sequence[int], waiting: Waiting
    ) -> None:
        """Aim at the nodes of the masters of these groups."""
        self._account = account
        self._nodes = nodes
        self._groups = groups
        self._waiting = waiting
        self._down: set[str] = set()

    def kill_node(self, fault: PlannedFault) -> bool:
        """Kill a member's node, and start it again later; False where none may be hit now."""
        account = self._account
        member = self._choose(fault, {*self._down})
        if member is None:
            return False
        start_ns = account.clock_ns()
        lives = {p: life for p, life in account.killable().items() if p[0] == member}
        what = f"{member}{account.leads(member)} for {fault.pause_s:.1f} s"
        self._down.add(member)
        self._nodes.kill(member)
        account.bury(lives.values())
        account.forget_pauses(of_member(member))
        opened = account.note(fault.kind, what, start_ns, places=of_member(member), is_done=False)
        due_ns = start_ns + int(fault.pause_s * SECOND_NS)
        self._waiting.later(due_ns, lambda: self._start_node(member, opened))
        return True

    def _start_node(self, member: str, opened: OpenFault) -> None:
        self._nodes.start(member)
        self._down.discard(member)
        opened.is_done = True

    def kill_gcs(self, fault: PlannedFault) -> bool:
        """Kill the GCS, wait, and start it again; False where not all serve now.

        Meanwhile nobody is looked at: whoever asks for an actor waits for the GCS.
        """
        account = self._account
        if not account.is_quiet:
            return False
        start_ns = account.clock_ns()
        away_s = GCS_FACTOR * fault.pause_s
        opened = account.note(fault.kind, f"for {away_s:.1f} s", start_ns, is_done=False)
        self._nodes.kill_gcs()
        try:
            self._waiting.until(start_ns + int(away_s * SECOND_NS), is_blind=True)
        finally:
            self._nodes.start_gcs()
        opened.is_done = True
        # Whoever waits for it, does so within this look.
        account.look()
        return True

    def hit_disk(self, fault: PlannedFault) -> bool:
        """Slow or fill a member's disk for a time; False where none may be hit now."""
        account = self._account
        member = self._choose(fault, self._down)
        if member is None:
            return False
        start_ns = account.clock_ns()
        for_s = DISK_FACTOR * fault.pause_s
        if fault.kind is FaultKind.SLOW_DISK:
            shortest_s, longest_s = FREEZE_S
            freeze_s = shortest_s * (longest_s / shortest_s) ** fault.draw
            self._nodes.slow_disk(member, freeze_s, for_s)
            how = f"frozen for {freeze_s:.2f} s at a time, "
        else:
            self._nodes.fill_disk(member, for_s)
            how = ""
        account.note(
            fault.kind,
            f"{member}{account.leads(member)} {how}for {for_s:.1f} s",
            start_ns,
            places=of_member(member),
            not_before_ns=start_ns + int(for_s * SECOND_NS),
        )
        return True

    def heal(self) -> None:
        """End what is done to disks; nodes are started again by whoever waits."""
        self._nodes.heal_disks()

    def _choose(self, fault: PlannedFault, without: set[str]) -> str | None:
        account = self._account
        master = account.masters.get(choose_group(fault, self._groups))
        able = account.voters.harmable(account.harmed)
        return choose_member(fault, [m for m in able if m not in without], master=master)
