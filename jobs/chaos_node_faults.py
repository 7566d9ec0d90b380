"""Faults of nodes, disks and the GCS, of a Ray cluster that the run started itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chaos_account import Account, OpenFault, of_members
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
        """Aim at the nodes of the masters of these groups.

        Args:
            account: Of faults.
            nodes: Of the members.
            groups: Their numbers.
            waiting: Does what is to be done later.

        `down` are the nodes that are not there.
        """
        self._account = account
        self._nodes = nodes
        self._groups = groups
        self._waiting = waiting
        self.down: set[str] = set()

    def kill_node(self, fault: PlannedFault) -> bool:
        """Kill a member's node, and start it again later; False where none may be hit now."""
        account = self._account
        site = self._choose(fault, without=self._joining)
        if site is None:
            return False
        start_ns = account.clock_ns()
        members = account.members_at(site)
        lives = {p: life for p, life in account.killable().items() if p[0] in members}
        what = f"{self._named(site)} for {fault.pause_s:.1f} s"
        self.down.add(site)
        self._nodes.kill(site)
        account.bury(lives.values())
        places = of_members(members)
        account.forget_pauses(places)
        opened = account.note(fault.kind, what, start_ns, places=places, is_done=False)
        due_ns = start_ns + int(fault.pause_s * SECOND_NS)
        self._waiting.later(due_ns, lambda: self._start_node(site, opened))
        return True

    def _start_node(self, site: str, opened: OpenFault) -> None:
        self._nodes.start(site)
        self.down.discard(site)
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
        site = self._choose(fault)
        if site is None:
            return False
        start_ns = account.clock_ns()
        for_s = DISK_FACTOR * fault.pause_s
        if fault.kind is FaultKind.SLOW_DISK:
            shortest_s, longest_s = FREEZE_S
            freeze_s = shortest_s * (longest_s / shortest_s) ** fault.draw
            self._nodes.slow_disk(site, freeze_s, for_s)
            how = f"frozen for {freeze_s:.2f} s at a time, "
        else:
            self._nodes.fill_disk(site, for_s)
            how = ""
        account.note(
            fault.kind,
            f"{self._named(site)} {how}for {for_s:.1f} s",
            start_ns,
            places=of_members(account.members_at(site)),
            not_before_ns=start_ns + int(for_s * SECOND_NS),
        )
        return True

    def heal(self) -> None:
        """End what is done to disks; nodes are started again by whoever waits."""
        self._nodes.heal_disks()

    @property
    def _joining(self) -> set[str]:
        """Nodes of members that are being made: each is made there, on that life of the node."""
        account = self._account
        new = {m for m in account.voters.replaced if not of_members([m]) <= account.sight.serving}
        return {account.site(member) for member in new}

    def _choose(self, fault: PlannedFault, without: Collection[str] = ()) -> str | None:
        """A node that is there and can be reached, and all of whose members may be harmed."""
        account = self._account
        master = account.masters.get(choose_group(fault, self._groups))
        able = [
            site
            for site in dict.fromkeys(map(account.site, account.voters.members))
            if site not in self.down
            and site not in without
            and not account.unreachable & set(account.members_at(site))
            and account.can_harm(account.members_at(site))
        ]
        return choose_member(fault, able, master=None if master is None else account.site(master))

    def _named(self, site: str) -> str:
        members = self._account.members_at(site)
        return ", ".join(f"{member}{self._account.leads(member)}" for member in members)
