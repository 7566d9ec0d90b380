"""What was done to a cluster in a chaos run, and what of it is not over yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from chaos_cluster import CONTROLLER, Life, Members, Place, Sight
from chaos_cuts import Pair
from chaos_gaps import SECOND_NS, Disturbance
from chaos_plan import ROLES, FaultKind
from chaos_voters import GroupVoters

LOOK_INTERVAL_S = 0.3


@dataclass(slots=True)
class OpenFault:
    """A fault that is not over: something is still done, or not all its victims serve again.

    Attributes:
        disturbance: Its account.
        places: Of its victims that are waited for.
        not_before_ns: When the processes, nodes or disks that it stopped go on.
        is_done: Whether nothing more is done for it.
        cuts: Pairs of members that do not hear each other until it is over.
        unreachable: Members that this job cannot reach.
        learned: Through which instance members have to learn groups until it is over.
    """

    disturbance: Disturbance
    places: set[Place] = field(default_factory=set)
    not_before_ns: int = 0
    is_done: bool = True
    cuts: frozenset[Pair] = frozenset()
    unreachable: frozenset[str] = frozenset()
    learned: Mapping[tuple[str, int], int] = field(default_factory=dict)


class Account:
    """Keeps count of faults, and of what serves.

    Attributes:
        voters: Of all groups.
        disturbances: What was injected, in order.
        sight: What was seen last.
        masters: Who led each group last, as far as was seen.
        paused: What is stopped: until when, and which process.
        site_of: On whose node a member is that is not on one of its own.
    """

    def __init__(
        self,
        members: Members,
        voters: GroupVoters,
        *,
        has_controller: bool = False,
        say: Callable[[str], None],
        clock_ns: Callable[[], int],
    ) -> None:
        """Nothing has happened yet.

        Args:
            members: To look at.
            voters: Of all groups.
            has_controller: Whether the cluster has one, which is to serve, too.
            say: Told of every fault.
            clock_ns: Monotonic.
        """
        self.voters = voters
        self.clock_ns = clock_ns
        self._members = members
        self._has_controller = has_controller
        self._say = say
        self._open: list[OpenFault] = []
        self._dead: set[Life] = set()
        self._looked_ns = 0
        self.disturbances: list[Disturbance] = []
        self.sight = Sight()
        self.masters: dict[int, str] = {}
        self.paused: dict[Place, tuple[int, Life]] = {}
        self.site_of: dict[str, str] = {}
        self.watch()

    def watch(self) -> None:
        """Look at whoever is a member now."""
        self._members.watch(self.voters.all_members, has_controller=self._has_controller)

    # What is so.

    @property
    def places(self) -> list[Place]:
        """All roles that are to serve."""
        places = [(member, role) for member in self.voters.members for role in ROLES]
        return [*places, CONTROLLER] if self._has_controller else places

    @property
    def is_whole(self) -> bool:
        """Whether all of them do, as far as was seen last."""
        return self.sight.serving >= set(self.places)

    @property
    def is_quiet(self) -> bool:
        """Whether all of them do, and no fault is open."""
        return self.is_whole and not self._open

    @property
    def is_due(self) -> bool:
        """Whether it is time to look at faults that are open."""
        due_ns = self._looked_ns + int(LOOK_INTERVAL_S * SECOND_NS)
        return bool(self._open) and self.clock_ns() >= due_ns

    @property
    def harmed(self) -> set[str]:
        """Members that are not whole, those that are gone for good included."""
        return {m for m in self.voters.all_members if not self.is_member_whole(m)}

    def site(self, member: str) -> str:
        """The node that a member is on, by the member that it was started for."""
        return self.site_of.get(member, member)

    def members_at(self, site: str) -> list[str]:
        """The members on a node: two while one is replaced by the other."""
        return [member for member in self.voters.members if self.site(member) == site]

    @property
    def cuts(self) -> frozenset[Pair]:
        """Pairs of members that do not hear each other."""
        return frozenset[Pair]().union(*(fault.cuts for fault in self._open))

    @property
    def unreachable(self) -> frozenset[str]:
        """Members that this job cannot reach."""
        return frozenset[str]().union(*(fault.unreachable for fault in self._open))

    @property
    def harmable(self) -> list[str]:
        """Members that may be harmed now, or are."""
        return self.voters.harmable(self.harmed, self.cuts)

    def can_harm(self, members: Collection[str], cuts: Collection[Pair] = ()) -> bool:
        """Whether these may be harmed besides, or are, and those pairs be cut besides."""
        harmed = self.harmed
        if not cuts and harmed.issuperset(members):
            return True
        return self.voters.may_harm(harmed.union(members), self.cuts.union(cuts))

    def is_member_whole(self, member: str) -> bool:
        """Whether all its roles serve, and nothing is being done to it."""
        serves = of_member(member) <= self.sight.serving
        return serves and not any(
            member in {name for name, _ in fault.places} and not self._is_over(fault)
            for fault in self._open
        )

    def _is_over(self, fault: OpenFault) -> bool:
        is_past = fault.is_done and self.clock_ns() >= fault.not_before_ns
        return is_past and self._has_learned(fault)

    def _has_learned(self, fault: OpenFault) -> bool:
        """Whether everybody has what it missed, of what it has at all."""
        learned = self.sight.learned
        return all(learned.get(key, least) >= least for key, least in fault.learned.items())

    def leads(self, member: str) -> str:
        """For a person: what it leads, with a space before it; empty for nothing."""
        count = sum(master == member for master in self.masters.values())
        if not count:
            return ""
        return " (master)" if len(self.masters) == 1 else f" (master of {count})"

    def missing(self) -> str:
        """The roles that do not serve, and why, for a person; empty for none."""
        missing = [place for place in self.places if place not in self.sight.serving]
        names = ", ".join(map(_named, missing))
        refusals = {_named(place): self.sight.refusals.get(place, "") for place in missing}
        why = {**{where: text for where, text in refusals.items() if text}, **self.sight.stopped}
        reasons = "; ".join(f"{where}: {text}" for where, text in why.items())
        return names + (f" ({reasons})" if names and reasons else "")

    def unfinished(self) -> list[str]:
        """Faults that are open though all serve, for a person."""
        return [f"{f.disturbance.kind.value} {f.disturbance.what}" for f in self._open]

    # What happens.

    def look(self) -> None:
        """See who serves, and close the accounts of faults that are over."""
        asked_ns = self.clock_ns()
        self.paused = {p: paused for p, paused in self.paused.items() if paused[0] > asked_ns}
        # Nobody who cannot be reached answers, or is waited for.
        seen = self._members.look({*self.paused, *of_members(self.unreachable)})
        lives = {place: life for place, life in seen.lives.items() if life not in self._dead}
        self.sight = replace(seen, lives=lives)
        self.masters |= seen.masters
        now_ns = self._looked_ns = self.clock_ns()
        there = set(self.places)
        still_open = []
        for fault in self._open:
            is_past = fault.is_done and asked_ns >= fault.not_before_ns
            serves = fault.places & there <= self.sight.serving
            if is_past and serves and self._has_learned(fault):
                fault.disturbance.end_ns = now_ns
            else:
                still_open.append(fault)
        self._open = still_open

    def note(
        self,
        kind: FaultKind,
        what: str,
        start_ns: int,
        *,
        places: Iterable[Place] = (),
        not_before_ns: int = 0,
        refusal: str = "",
        is_done: bool = True,
    ) -> OpenFault:
        """A fault was injected; the account is open until all its victims serve again."""
        disturbance = Disturbance(kind, what, start_ns, refusal=refusal)
        self.disturbances.append(disturbance)
        fault = OpenFault(disturbance, set(places), not_before_ns, is_done)
        self._open.append(fault)
        self._say(f"{kind.value} {what}" + (f": refused: {refusal}" if refusal else ""))
        return fault

    def tell(self, fault: OpenFault, refusal: str) -> None:
        """What came of a fault that took some time, where it did not come about."""
        fault.disturbance.refusal = refusal
        self._say(f"{fault.disturbance.kind.value} {fault.disturbance.what}: refused: {refusal}")

    def bury(self, lives: Iterable[Life]) -> None:
        """These processes were killed, whatever a late look says of them."""
        self._dead.update(lives)

    def forget_pauses(self, places: Iterable[Place]) -> None:
        """What was stopped there is stopped no more."""
        for place in places:
            self.paused.pop(place, None)

    def end_waits(self) -> None:
        """Nothing that was stopped for a time is stopped any more."""
        self.paused.clear()
        for fault in self._open:
            fault.not_before_ns = 0

    def killable(self) -> dict[Place, Life]:
        """All processes of members that a SIGKILL ends: that serve, and that are stopped."""
        lives = dict(self.sight.lives) | {p: life for p, (_, life) in self.paused.items()}
        away = self.unreachable
        return {p: life for p, life in lives.items() if p != CONTROLLER and p[0] not in away}

    @property
    def last(self) -> Disturbance | None:
        """The latest fault."""
        return self.disturbances[-1] if self.disturbances else None


def of_member(member: str) -> set[Place]:
    """The places of a member."""
    return {(member, role) for role in ROLES}


def of_members(members: Iterable[str]) -> set[Place]:
    """The places of these."""
    return {place for member in members for place in of_member(member)}


def _named(place: Place) -> str:
    return "/".join(part for part in place if part)
