"""Injects planned faults into a running cluster, keeps account of them, and heals it.

```
 plan ──▶ wait until it is due ──▶ aim ──▶ inject ──▶ look until what it hit serves again
               (looking meanwhile)                     (while the plan goes on)
```

The rules of what may overlap are in `chaos_plan`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chaos_cluster import Life, Members, Place, Sight
from chaos_gaps import SECOND_NS, Disturbance
from chaos_plan import (
    OF_ONE_ROLE,
    PAUSES,
    ROLES,
    FaultKind,
    PlannedFault,
    choose_member,
    choose_successor,
)
from ray_paxos.errors import PaxosError, TransferError

LOOK_INTERVAL_S = 0.3
TICK_S = 0.05
TRANSFER_S = 5.0


class LedCluster(Protocol):
    """What this module needs of a `ray_paxos.Cluster`."""

    @property
    def members(self) -> Sequence[str]:
        """Their names."""

    def drop_master(self, group: int, *, timeout_s: float) -> str | None:
        """Have the master give up the lead."""

    def transfer_master(self, member: str, group: int, *, timeout_s: float) -> None:
        """Have the master hand over."""


@dataclass(slots=True)
class _Open:
    """A fault whose victims do not all serve again.

    Attributes:
        disturbance: Its account.
        places: Of its victims that are waited for.
        not_before_ns: When the processes that it stopped go on.
    """

    disturbance: Disturbance
    places: set[Place] = field(default_factory=set)
    not_before_ns: int = 0


class Injector:
    """Runs one plan against one group of one cluster.

    Attributes:
        disturbances: What was injected, in order.
        sight: What was seen last.
    """

    def __init__(
        self,
        cluster: LedCluster,
        members: Members,
        group: int,
        *,
        say: Callable[[str], None],
        on_tick: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is injected yet.

        Args:
            cluster: Whose master is dropped.
            members: Whose processes are signalled.
            group: Whose master it is.
            say: Told of every fault.
            on_tick: Called many times a second while the injector waits.
            clock_ns: Monotonic.
            sleep: Waits.
        """
        self._cluster = cluster
        self._members = members
        self._group = group
        self._say = say
        self._on_tick = on_tick
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._places = [(member, role) for member in cluster.members for role in ROLES]
        self._open: list[_Open] = []
        self._dead: set[Life] = set()
        self._paused: dict[Place, tuple[int, Life]] = {}
        """What is stopped: until when, and which process."""
        self._looked_ns = 0
        self._master: str | None = None
        self.disturbances: list[Disturbance] = []
        self.sight = Sight()

    def look(self) -> None:
        """See who serves, and close the accounts of faults that are over."""
        asked_ns = self._clock_ns()
        self._paused = {p: paused for p, paused in self._paused.items() if paused[0] > asked_ns}
        seen = self._members.look(self._paused)
        lives = {place: life for place, life in seen.lives.items() if life not in self._dead}
        self.sight = Sight(lives, seen.master, seen.stopped)
        self._master = seen.master or self._master
        now_ns = self._looked_ns = self._clock_ns()
        still_open = []
        for fault in self._open:
            if asked_ns >= fault.not_before_ns and fault.places <= lives.keys():
                fault.disturbance.end_ns = now_ns
            else:
                still_open.append(fault)
        self._open = still_open

    @property
    def is_whole(self) -> bool:
        """Whether all roles of all members serve, as far as was seen last."""
        return self.sight.lives.keys() >= set(self._places)

    def run(self, plan: Iterator[PlannedFault], until_ns: int) -> None:
        """Inject what the plan says until then; with no plan, only wait."""
        for fault in plan:
            due_ns = self._begin_of_wait() + int(fault.after_s * SECOND_NS)
            if due_ns >= until_ns:
                break
            self._wait(due_ns)
            while not self._inject(fault):
                # Nobody may be hit now: too many are harmed, or their processes are not back.
                self._wait(min(self._clock_ns() + int(LOOK_INTERVAL_S * SECOND_NS), until_ns))
                if self._clock_ns() >= until_ns:
                    return
            if fault.kind is FaultKind.RESTART_ALL:
                self._wait_until_whole(until_ns)
        self._wait(until_ns)

    def heal(self, patience_s: float) -> list[str]:
        """Continue what is stopped, and wait until everything serves.

        Returns:
            What does not, and why; empty if all does.
        """
        self._members.resume()
        self._paused.clear()
        for fault in self._open:
            fault.not_before_ns = 0
        self._wait_until_whole(self._clock_ns() + int(patience_s * SECOND_NS))
        if self.is_whole:
            return []
        missing = [place for place in self._places if place not in self.sight.lives]
        names = ", ".join(f"{member}/{role}" for member, role in missing)
        reasons = "; ".join(f"{where}: {why}" for where, why in self.sight.stopped.items())
        return [
            f"not all roles served within {patience_s:g} s of the last fault: {names}"
            + (f" ({reasons})" if reasons else "")
        ]

    # Waiting.

    def _begin_of_wait(self) -> int:
        last = self.disturbances[-1] if self.disturbances else None
        if last is None:
            return self._clock_ns()
        if last.kind is FaultKind.RESTART_ALL and last.end_ns is not None:
            # What came of it should be seen before the next one.
            return last.end_ns
        return last.start_ns

    def _wait(self, until_ns: int) -> None:
        while True:
            now_ns = self._clock_ns()
            self._on_tick()
            if self._open and now_ns >= self._looked_ns + int(LOOK_INTERVAL_S * SECOND_NS):
                self.look()
                now_ns = self._clock_ns()
            if now_ns >= until_ns:
                return
            self._sleep(min(TICK_S, (until_ns - now_ns) / SECOND_NS))

    def _wait_until_whole(self, until_ns: int) -> None:
        self.look()
        while not (self.is_whole and not self._open) and self._clock_ns() < until_ns:
            self._wait(min(self._clock_ns() + int(LOOK_INTERVAL_S * SECOND_NS), until_ns))
            self.look()

    # Injecting.

    def _inject(self, fault: PlannedFault) -> bool:
        """Inject one fault; False where nobody may be hit now."""
        self.look()
        if fault.kind is FaultKind.DROP_MASTER:
            self._drop_master(fault)
            return True
        lives = dict(self.sight.lives)
        if fault.kind not in PAUSES:
            # SIGKILL ends what is stopped, too.
            lives |= {place: life for place, (_, life) in self._paused.items()}
        if fault.kind is FaultKind.RESTART_ALL:
            return self._kill(fault.kind, "all members", lives)
        harmed = {member for member, _ in self._places if not self._is_member_whole(member)}
        able = {m for m, role in lives if fault.kind not in OF_ONE_ROLE or role == fault.role}
        member = choose_member(
            fault, self._cluster.members, harmed=harmed, able=able, master=self._master
        )
        if member is None:
            return False
        hit = {
            place: life
            for place, life in lives.items()
            if place[0] == member and (fault.kind not in OF_ONE_ROLE or place[1] == fault.role)
        }
        role = f"/{fault.role}" if fault.kind in OF_ONE_ROLE else ""
        leads = " (master)" if member == self._master else ""
        if fault.kind in PAUSES:
            return self._pause(fault, f"{member}{role}{leads}", hit)
        return self._kill(fault.kind, f"{member}{role}{leads}", hit)

    def _is_member_whole(self, member: str) -> bool:
        return all((member, role) in self.sight.lives for role in ROLES)

    def _kill(self, kind: FaultKind, what: str, hit: dict[Place, Life]) -> bool:
        if not hit:
            return False
        start_ns = self._clock_ns()
        count = self._members.kill(list(hit.values()))
        if not count:
            return False
        self._dead.update(hit.values())
        for place in hit:
            self._paused.pop(place, None)
        self._note(kind, what, start_ns, places=set(hit))
        return True

    def _pause(self, fault: PlannedFault, what: str, hit: dict[Place, Life]) -> bool:
        start_ns = self._clock_ns()
        count = self._members.pause(list(hit.values()), fault.pause_s)
        if not count:
            return False
        end_ns = start_ns + int(fault.pause_s * SECOND_NS)
        self._paused.update({place: (end_ns, life) for place, life in hit.items()})
        what = f"{what} for {fault.pause_s:.1f} s"
        self._note(fault.kind, what, start_ns, places=set(hit), not_before_ns=end_ns)
        return True

    def _drop_master(self, fault: PlannedFault) -> None:
        master = self._master
        successor = choose_successor(fault, self._cluster.members, master)
        what = f"{master or 'the master'} to {successor or 'anybody'}"
        start_ns = self._clock_ns()
        refusal = ""
        try:
            if successor is None:
                self._cluster.drop_master(self._group, timeout_s=TRANSFER_S)
            else:
                self._cluster.transfer_master(successor, self._group, timeout_s=TRANSFER_S)
        except TransferError as error:
            refusal = str(error)
        except PaxosError as error:
            refusal = f"{type(error).__name__}: {error}"
        self._note(fault.kind, what, start_ns, refusal=refusal)

    def _note(
        self,
        kind: FaultKind,
        what: str,
        start_ns: int,
        *,
        places: set[Place] | None = None,
        not_before_ns: int = 0,
        refusal: str = "",
    ) -> None:
        disturbance = Disturbance(kind, what, start_ns, refusal=refusal)
        self.disturbances.append(disturbance)
        self._open.append(_Open(disturbance, places or set(), not_before_ns))
        self._say(f"{kind.value} {what}" + (f": refused: {refusal}" if refusal else ""))
