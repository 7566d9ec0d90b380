"""Faults of processes: kills, pauses, and restarts of one member after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from chaos_account import Account
from chaos_cluster import Life, Members, Place
from chaos_gaps import SECOND_NS
from chaos_group_faults import TRANSFER_S, LedCluster
from chaos_plan import (
    OF_ONE_ROLE,
    PAUSES,
    FaultKind,
    PlannedFault,
    choose_group,
    choose_member,
)
from chaos_waiting import Waiting
from ray_paxos.errors import PaxosError

RESTART_S = 60.0
"""How long a member may take until it serves again after a clean restart."""


class ProcessFaults:
    """Signals to processes."""

    def __init__(self, account: Account, members: Members, groups: Sequence[int]) -> None:
        """Aim at the masters of these groups."""
        self._account = account
        self._members = members
        self._groups = groups

    def hit(self, fault: PlannedFault) -> bool:
        """Kill or pause what one fault is aimed at; False where nobody may be hit now."""
        account = self._account
        # SIGKILL ends what is stopped, too.
        lives = dict(account.sight.lives) if fault.kind in PAUSES else account.killable()
        is_of_role = fault.kind in OF_ONE_ROLE
        able = {m for m, role in lives if not is_of_role or role == fault.role}
        master = account.masters.get(choose_group(fault, self._groups))
        allowed = [m for m in account.harmable if m in able]
        member = choose_member(fault, allowed, master=master)
        if member is None:
            return False
        hit = {
            place: life
            for place, life in lives.items()
            if place[0] == member and (not is_of_role or place[1] == fault.role)
        }
        role = f"/{fault.role}" if is_of_role else ""
        what = f"{member}{role}{account.leads(member)}"
        if fault.kind in PAUSES:
            return self._pause(fault, what, hit)
        return self._kill(fault.kind, what, hit)

    def hit_all(self, fault: PlannedFault) -> bool:
        """Kill everything."""
        return self._kill(fault.kind, "all members", self._account.killable())

    def _kill(self, kind: FaultKind, what: str, hit: Mapping[Place, Life]) -> bool:
        if not hit:
            return False
        start_ns = self._account.clock_ns()
        if not self._members.kill(list(hit.values())):
            return False
        self._account.bury(hit.values())
        self._account.forget_pauses(hit)
        self._account.note(kind, what, start_ns, places=hit)
        return True

    def _pause(self, fault: PlannedFault, what: str, hit: Mapping[Place, Life]) -> bool:
        start_ns = self._account.clock_ns()
        if not self._members.pause(list(hit.values()), fault.pause_s):
            return False
        end_ns = start_ns + int(fault.pause_s * SECOND_NS)
        self._account.paused.update({place: (end_ns, life) for place, life in hit.items()})
        what = f"{what} for {fault.pause_s:.1f} s"
        self._account.note(fault.kind, what, start_ns, places=hit, not_before_ns=end_ns)
        return True


class RollingRestart:
    """All members, one by one."""

    def __init__(
        self,
        account: Account,
        cluster: LedCluster,
        members: Members,
        groups: Sequence[int],
        waiting: Waiting,
    ) -> None:
        """Restart these members, which lead some of these groups."""
        self._account = account
        self._cluster = cluster
        self._members = members
        self._groups = groups
        self._waiting = waiting

    def run(self, fault: PlannedFault) -> bool:
        """Restart each; False where not all serve now."""
        account = self._account
        if not account.is_quiet:
            return False
        opened = account.note(fault.kind, "all members in turn", account.clock_ns(), is_done=False)
        for member in account.voters.members:
            self._hand_over(member)
            lives = [life for place, life in account.sight.lives.items() if place[0] == member]
            self._members.restart(member)
            account.bury(lives)
            self._waiting.until_whole(account.clock_ns() + int(RESTART_S * SECOND_NS))
            if not account.is_whole:
                account.tell(opened, f"{member} did not serve again within {RESTART_S:g} s")
                break
        opened.is_done = True
        account.look()
        return True

    def _hand_over(self, member: str) -> None:
        """As whoever plans a restart would: a master that ends leaves its lease to run out."""
        for group in self._groups:
            if self._account.masters.get(group) == member:
                # Who cannot hand over is restarted all the same.
                with contextlib.suppress(PaxosError):
                    self._cluster.drop_master(group, timeout_s=TRANSFER_S)
