"""Which faults a chaos run injects, and when: drawn from the seed alone, aimed when it is time.

Rules:

1. The kinds are dealt like cards: every kind comes once before any comes again, and a run goes on
   for a while until each has come, so that a short one has seen them all.
2. A fault is drawn without looking at the cluster: the same seed gives the same faults at the
   same distances. Whom it hits depends on who leads, votes and is harmed at that moment.
3. A member is *harmed* from when one of its processes is killed or stopped, its node or its disk
   is, or links of its host are cut, until all of its roles serve again. Of the voters of each group
   no more than a minority is harmed at a time, so that the others are a quorum: a fault that would
   harm one too many hits one that is harmed already. Faults may thus overlap on a member: killed
   while it is paused, killed again while it comes back. While a group's members are changed the
   rule holds for the voters of before, of after, and of every step between (`chaos_voters`).
4. `restart-all` is the exception. After it nothing is injected until all members serve again.
   `rolling-restart` and `kill-gcs` begin when all serve, and nothing is injected until they are
   over.
5. `drop-master` harms nobody and comes at any time. Changes of a group's members harm nobody
   either; one group is changed by one of them at a time.
6. A change leaves a group with at least three voters, or as many as it had.
7. `partition` harms those that are cut off, `one-way` the one whose links are cut one way.
   `partial` harms nobody, but for a master that it cuts off altogether: every group keeps a voter
   that reaches a quorum of it, itself among them, both ways, whatever else is harmed meanwhile
   (`chaos_cuts`). Cuts count until, after they were mended, every member has learned what the
   furthest one had learned by then.
8. The clients and this job are on the head's host, which never loses a link to a quorum. A member
   that the job cannot reach is hit by nothing else until it can.
9. `replace-member` harms nobody, and comes one at a time. Who takes the old one's place in a group
   is the reconciler's choice: the rule holds for each that it may choose. The new member counts as
   harmed until it serves. `kill-controller` harms nobody and comes at any time, in half of the
   cases right after an order to replace a member, where those are asked for, too.
10. Where a reconciler runs (rule 9, or a controller), it brings every group back to the number of
    voters that is wanted. So changes are then ordered of it, and it neither spreads groups nor
    takes a member for lost: it undoes nothing, and the account stays true.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ray_paxos.errors import ConfigurationError

ROLES = ("proposer", "acceptor", "learner", "checkpointer")
MASTER_SHARE = 0.5
"""So many faults are aimed at the master's member, the others at any."""
PAUSE_S = (0.5, 6.0)
"""How long processes, nodes and disks are stopped: from less than any timeout to three leases of
2 s. Links are cut for as many leases: long enough to replace a master, and its successor."""
VOTERS_MIN = 3
NO_FAULTS = "none"


class FaultKind(Enum):
    """What can be done to a cluster."""

    KILL_ROLE = "kill-role"
    """SIGKILL of one role's process."""
    KILL_MEMBER = "kill-member"
    """SIGKILL of all four of a member."""
    PAUSE_MEMBER = "pause-member"
    """SIGSTOP of all four of a member, and SIGCONT later."""
    PAUSE_ROLE = "pause-role"
    """The same of one role's process."""
    DROP_MASTER = "drop-master"
    """The master is told to give up the lead, or to hand it to another member."""
    RESTART_ALL = "restart-all"
    """SIGKILL of all processes of all members at once, but for those that are being started."""
    ROLLING_RESTART = "rolling-restart"
    """Each member hands over, is closed and started again, the next once the one before serves."""
    ADD_MEMBER = "add-member"
    """A group is given to a member that has it not, which votes once it has caught up."""
    REMOVE_MEMBER = "remove-member"
    """A group is taken from one of its voters."""
    MOVE_GROUP = "move-group"
    """A member that has not a group takes the place of one that votes in it."""
    WIPE_MEMBER = "wipe-member"
    """SIGKILL of a member and its folder deleted: it stays out, and the others remove it."""
    KILL_NODE = "kill-node"
    """SIGKILL of a member's raylet and of all its workers, and the node started again later."""
    KILL_GCS = "kill-gcs"
    """SIGKILL of Ray's GCS, started again later."""
    SLOW_DISK = "slow-disk"
    """A member's file system is frozen again and again for moments."""
    FULL_DISK = "full-disk"
    """A member's file system has no room."""
    PARTITION = "partition"
    """The hosts of a minority are cut off from all others, both ways."""
    ONE_WAY = "one-way"
    """What a host sends to some others is lost, or what they send to it."""
    PARTIAL = "partial"
    """Links between some pairs of hosts are cut; in each group somebody reaches a quorum."""
    KILL_CONTROLLER = "kill-controller"
    """SIGKILL of the controller's process."""
    REPLACE_MEMBER = "replace-member"
    """A new member takes over all that another one has, which ends."""


DEFAULT_KINDS = (
    FaultKind.KILL_ROLE,
    FaultKind.KILL_MEMBER,
    FaultKind.PAUSE_MEMBER,
    FaultKind.DROP_MASTER,
    FaultKind.RESTART_ALL,
)
OF_PROCESSES = frozenset(
    (FaultKind.KILL_ROLE, FaultKind.KILL_MEMBER, FaultKind.PAUSE_MEMBER, FaultKind.PAUSE_ROLE)
)
OF_DISKS = frozenset((FaultKind.SLOW_DISK, FaultKind.FULL_DISK))
OF_NODES = frozenset((FaultKind.KILL_NODE, FaultKind.KILL_GCS, *OF_DISKS))
"""They need nodes that the job started itself."""
OF_LINKS = frozenset((FaultKind.PARTITION, FaultKind.ONE_WAY, FaultKind.PARTIAL))
"""They need hosts."""
OF_A_MINORITY = OF_PROCESSES | OF_DISKS | OF_LINKS | {FaultKind.KILL_NODE}
OF_ONE_ROLE = frozenset((FaultKind.KILL_ROLE, FaultKind.PAUSE_ROLE))
PAUSES = frozenset((FaultKind.PAUSE_MEMBER, FaultKind.PAUSE_ROLE))
OF_GROUPS = frozenset((FaultKind.ADD_MEMBER, FaultKind.REMOVE_MEMBER, FaultKind.MOVE_GROUP))
OF_RECONCILERS = frozenset((FaultKind.KILL_CONTROLLER, FaultKind.REPLACE_MEMBER))
"""With them a reconciler runs, by a controller or for an order."""
OF_ALL = frozenset((FaultKind.RESTART_ALL, FaultKind.ROLLING_RESTART))


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault, as it was drawn.

    Attributes:
        kind: Which.
        after_s: So long after the one before began.
        is_for_master: Whether the master's member is hit, where it may be.
        draw: From 0 to 1: which member, where more than one may be hit.
        role: Which role is hit, where only one is.
        pause_s: For how long processes, nodes or disks are stopped, where they are; for how many
            leases links are cut.
        is_transfer: Whether the lead is handed to a member rather than dropped, and the controller
            killed in the middle of an order.
        group_draw: From 0 to 1: whose master is meant, and whose members are changed.
        links_draw: Seed of which links are cut, and how.
    """

    kind: FaultKind
    after_s: float
    is_for_master: bool
    draw: float
    role: str
    pause_s: float
    is_transfer: bool
    group_draw: float = 0.0
    links_draw: float = 0.0


def parse_kinds(text: str) -> tuple[FaultKind, ...]:
    """The kinds that a list with commas names; none for `none`.

    Raises:
        ConfigurationError: One is unknown, or named twice, or there is none.
    """
    if text.strip() == NO_FAULTS:
        return ()
    known = {kind.value: kind for kind in FaultKind}
    kinds: list[FaultKind] = []
    for name in (part.strip() for part in text.split(",")):
        if name not in known:
            allowed = ", ".join([*known, NO_FAULTS])
            raise ConfigurationError(f"--faults: found {name!r}; allowed: {allowed}")
        if known[name] in kinds:
            raise ConfigurationError(f"--faults: {name} is named twice")
        kinds.append(known[name])
    return tuple(kinds)


def check_members(kinds: Collection[FaultKind], members: int) -> None:
    """Whether the faults can be injected at all.

    Raises:
        ConfigurationError: There are too few members for one of them.
    """

    def named(chosen: Callable[[FaultKind], bool]) -> str:
        return ", ".join(kind.value for kind in FaultKind if kind in kinds and chosen(kind))

    harming = named(lambda kind: kind in OF_A_MINORITY)
    if harming and minority(members) == 0:
        raise ConfigurationError(
            f"--faults: {harming} leave a quorum of at least 3 members, and the cluster "
            f"has {members}"
        )
    if FaultKind.DROP_MASTER in kinds and members < 2:
        raise ConfigurationError("--faults: drop-master needs a second member to lead")
    changing = named(lambda kind: kind in OF_GROUPS or kind is FaultKind.WIPE_MEMBER)
    if changing and members <= VOTERS_MIN:
        raise ConfigurationError(
            f"--faults: {changing}: a group keeps {VOTERS_MIN} voters, so it takes at least "
            f"{VOTERS_MIN + 1} members, and the cluster has {members}"
        )


def check_nodes(kinds: Collection[FaultKind], nodes: int | None, *, has_hosts: bool) -> None:
    """Whether the nodes are the job's own, and have links of their own, where a fault needs that.

    Args:
        kinds: Of faults.
        nodes: How many the job starts on this machine; None where it starts none.
        has_hosts: Whether it makes a host for each member.

    Raises:
        ConfigurationError: They are not.
    """
    if has_hosts:
        return
    needing = ", ".join(kind.value for kind in FaultKind if kind in OF_LINKS and kind in kinds)
    if needing:
        raise ConfigurationError(
            f"--faults: {needing}: only between hosts of the job's own; give --hosts"
        )
    needing = ", ".join(kind.value for kind in FaultKind if kind in OF_NODES and kind in kinds)
    if needing and nodes is None:
        raise ConfigurationError(
            f"--faults: {needing}: only where the job starts the nodes itself; give --nodes, at "
            "least one for each member, or --hosts"
        )


def minority(members: int) -> int:
    """How many of so many members may be harmed while the others are a quorum."""
    return (members - 1) // 2


def plan_faults(kinds: Sequence[FaultKind], seed: int, interval_s: float) -> Iterator[PlannedFault]:
    """Faults without end.

    Args:
        kinds: Which; none gives none.
        seed: Of everything that is drawn.
        interval_s: Between the beginnings of two faults, on average.
    """
    source = random.Random(seed)
    # A source of its own: a seed means the same faults as if there were no links to draw.
    links = random.Random(f"{seed}/links")
    while kinds:
        # Sorted first: the order in which the kinds were named means nothing.
        deck = sorted(kinds, key=lambda kind: kind.value)
        source.shuffle(deck)
        for kind in deck:
            yield PlannedFault(
                kind=kind,
                after_s=source.uniform(0.25, 1.75) * interval_s,
                is_for_master=source.random() < MASTER_SHARE,
                draw=source.random(),
                role=source.choice(ROLES),
                pause_s=source.uniform(*PAUSE_S),
                is_transfer=source.random() < 0.5,
                group_draw=source.random(),
                links_draw=links.random(),
            )


def choose_member(fault: PlannedFault, allowed: Sequence[str], *, master: str | None) -> str | None:
    """Whom a fault hits.

    Args:
        fault: Which.
        allowed: Those that it may hit and that have something which it can hit, in order.
        master: Who leads the group that it is aimed at, as far as is known.

    Returns:
        A member; None where nobody may be hit now.
    """
    if not allowed:
        return None
    if fault.is_for_master and master in allowed:
        return master
    return allowed[int(fault.draw * len(allowed))]


def choose_successor(fault: PlannedFault, members: Sequence[str], master: str | None) -> str | None:
    """Who is to lead next; None where the lead is only dropped."""
    others = [name for name in members if name != master]
    if not fault.is_transfer or not others:
        return None
    return others[int(fault.draw * len(others))]


def choose_group(fault: PlannedFault, groups: Sequence[int]) -> int:
    """Which of these groups a fault is aimed at."""
    return groups[int(fault.group_draw * len(groups))]
