"""A cluster as far as the controller sees it: members, nodes, groups' configurations; a model.

Groups change as `core.membership` says, where a majority of their voters lives, and only from the
configuration that whoever orders it has seen. Members have a folder from when they are made until
they end; one whose process died is made to live again where its folder is on a live node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from ray_paxos.core.genesis import Configuration, GroupSpec, MemberSpec, Voter, first_voters
from ray_paxos.core.membership import change_refused, changed
from ray_paxos.core.reconciliation import (
    AddMember,
    ChangeGroup,
    EndMember,
    GiveGroup,
    GroupSeen,
    LaunchMember,
    MakeMember,
    Policy,
    RetireMember,
    Seen,
    Step,
    TakeGroupAway,
    plan,
)
from ray_paxos.core.spreading import Place
from ray_paxos.core.values import MembershipEntry, MembershipKind
from ray_paxos.core.wanted import (
    GroupState,
    MemberState,
    Wanted,
    WantedGroup,
    WantedMember,
)
from ray_paxos.core.wanted_changes import (
    Begin,
    Change,
    GroupDropped,
    GroupMade,
    JoinMember,
    LeaveMember,
    MakeGroup,
    MemberEnding,
    MemberJoined,
    MemberLeft,
    changed_wanted,
)
from ray_paxos.errors import CommandError

LOST_AFTER = 3
"""A member that has not answered in so many looks of one controller is lost for it."""


@dataclass
class Node:
    """Where one member is; what is on it stays on it.

    Attributes:
        zone: Its label.
        is_up: Whether it lives.
        is_going: Whether Ray drains it: what lives on it lives on, and nothing is begun there.
    """

    zone: str = ""
    is_up: bool = True
    is_going: bool = False

    @property
    def takes_work(self) -> bool:
        return self.is_up and not self.is_going


@dataclass(frozen=True)
class Look:
    """What a controller goes by in one round; it may be long out of date when a step is taken."""

    wanted: Wanted
    seen: Seen


class ControlledCluster:
    """The truth."""

    def __init__(
        self, members: int, groups: int, voters: int = 3, zones: Collection[str] = ("",)
    ) -> None:
        """Begin with members m1, m2, ..., each on a node of its own, and groups 0, 1, ..."""
        self.zones = tuple(zones)
        self.nodes: dict[str, Node] = {}
        self.node_of: dict[str, str] = {}
        self.alive: set[str] = set()
        self.folders: set[str] = set()
        self.ending: set[str] = set()
        self.configurations: dict[int, Configuration] = {}
        self.learned: dict[str, dict[int, Configuration]] = {}
        self.adds: Counter[tuple[int, str]] = Counter()
        self._instances = 0
        specs = [MemberSpec(f"m{n}", 100 + n) for n in range(1, members + 1)]
        for spec in specs:
            self._settle(spec.name, self.new_node())
        wanted_members = tuple(WantedMember(spec, MemberState.PRESENT) for spec in specs)
        first = [GroupSpec(n, first_voters(_window(specs, n, voters)), ()) for n in range(groups)]
        wanted_groups = tuple(WantedGroup(spec, GroupState.PRESENT, voters) for spec in first)
        self.wanted = changed_wanted(Wanted(), Begin(wanted_members, wanted_groups))
        self.configurations = {spec.group: spec.configuration for spec in first}
        self.learn()

    def new_node(self) -> str:
        """One more node."""
        name = f"n{len(self.nodes)}"
        self.nodes[name] = Node(self.zones[len(self.nodes) % len(self.zones)])
        return name

    @property
    def is_plain(self) -> bool:
        """Whether no two present members are in one zone that has a name, or on one machine."""
        machines = [self.node_of[member.spec.name] for member in self.wanted.present]
        return self.zones == ("",) and len(set(machines)) == len(machines)

    def change(self, change: Change) -> bool:
        """Change what is wanted; whether it fits."""
        try:
            self.wanted = changed_wanted(self.wanted, change)
        except CommandError:
            return False
        return True

    def state(self, name: str) -> MemberState:
        return self.wanted.members[name].state

    def named(self, members: Iterable[Voter]) -> tuple[str, ...]:
        known = {m.spec.member_id: name for name, m in self.wanted.members.items()}
        return tuple(sorted(known[each.member_id] for each in members))

    def voters(self, group: int) -> tuple[str, ...]:
        return self.named(self.configurations[group].voters)

    def live_voters(self, group: int) -> set[str]:
        return set(self.voters(group)) & self.alive

    def has_master(self, group: int) -> bool:
        return len(self.live_voters(group)) >= self.configurations[group].majority

    @property
    def going(self) -> set[str]:
        """Members that live on a node that Ray drains."""
        return {name for name in self.alive if self.nodes[self.node_of[name]].is_going}

    def named_by(self, group: int) -> tuple[str, ...]:
        configuration = self.configurations.get(group, Configuration(0, ()))
        return self.named((*configuration.voters, *configuration.followers))

    def group_names(self, group: int, name: str) -> bool:
        return name in self.named_by(group)

    # What happens to members.

    def learn(self) -> None:
        """Members that live learn what they are told; those that have no group let go of it."""
        for name in self.alive:
            learned = self.learned.setdefault(name, {})
            for group, configuration in self.configurations.items():
                if self.group_names(group, name) and self.has_master(group):
                    learned[group] = configuration
            for group in list(learned):
                if group not in self.configurations or not self.group_names(group, name):
                    del learned[group]

    def crash(self, name: str) -> None:
        """Its process dies; the node does not, but where it only waited for that."""
        node = self.nodes[self.node_of[name]]
        node.is_up = not node.is_going
        self.alive.discard(name)

    def lose_node(self, name: str) -> None:
        """The node dies under a member."""
        self.nodes[self.node_of[name]].is_up = False
        self.alive.discard(name)

    def bring_back(self, name: str) -> None:
        """The node lives again, with its member."""
        node = self.nodes[self.node_of[name]]
        node.is_up, node.is_going = True, False
        if name in self.folders:
            self.alive.add(name)

    def _settle(self, name: str, node: str) -> None:
        self.node_of[name] = node
        self.folders.add(name)
        self.alive.add(name)

    # What a controller does.

    def carry_out(self, step: Step, look: Look, *, breaks_off: bool = False) -> bool:
        """Take a step as far as the truth allows it; whether anything came of it.

        Args:
            step: What was planned.
            look: What it was planned on, however long ago.
            breaks_off: Whether the controller dies half way.
        """
        match step:
            case AddMember(node_id=node):
                spec = MemberSpec(f"on-{node}", 1_000 + int(node[1:]))
                return self.change(JoinMember(WantedMember(spec, MemberState.JOINING, node)))
            case RetireMember(member=name):
                return self.change(LeaveMember(name))
            case MakeMember(member=name):
                return self._make(name, breaks_off)
            case LaunchMember(member=name):
                if name in self.folders and self.nodes[self.node_of[name]].takes_work:
                    self.alive.add(name)
                return name in self.alive
            case EndMember(member=name):
                return self._end(name, look, breaks_off)
            case ChangeGroup():
                return self._change_group(step)
            case GiveGroup(group=group):
                return self._give(group, breaks_off)
            case TakeGroupAway(group=group):
                over = (MemberState.ENDING, MemberState.GONE)
                there = {n for n, m in self.wanted.members.items() if m.state not in over}
                if there - self.alive - self.never_made:
                    return False
                self.configurations.pop(group, None)
                return not breaks_off and self.change(GroupDropped(group))

    @property
    def never_made(self) -> set[str]:
        """Members without a folder yet, which nobody asks."""
        joining = {n for n, m in self.wanted.members.items() if m.state is MemberState.JOINING}
        return joining - self.folders

    def _make(self, name: str, breaks_off: bool) -> bool:
        member = self.wanted.members[name]
        if member.state is not MemberState.JOINING or not self.nodes[member.node_id].takes_work:
            return False
        self.node_of[name] = member.node_id
        self.folders.add(name)
        if breaks_off:
            return False
        self.alive.add(name)
        return self.change(MemberJoined(name))

    def _end(self, name: str, look: Look, breaks_off: bool) -> bool:
        if self.state(name) is MemberState.LEAVING:
            # It may have been told to stay since, and been given a group.
            self.change(MemberEnding(name, look.wanted.version))
        if self.state(name) is not MemberState.ENDING:
            return False
        for group in self.configurations:
            if self.wanted.groups[group].state is GroupState.DROPPING:
                continue
            assert name not in self.voters(group), f"{name} ends, and votes in group {group}"
        self.alive.discard(name)
        self.folders.discard(name)
        self.ending.add(name)
        return not breaks_off and self.change(MemberLeft(name))

    def _give(self, group: int, breaks_off: bool) -> bool:
        spec = self.wanted.groups[group].spec
        voters = self.named(spec.voters)
        there = {name for name in voters if self.state(name) is not MemberState.GONE}
        if self.wanted.groups[group].state is not GroupState.MAKING or there - self.alive:
            return False
        self.configurations.setdefault(group, spec.configuration)
        self.learn()
        return not breaks_off and self.change(GroupMade(group))

    def _change_group(self, step: ChangeGroup) -> bool:
        before = self.configurations.get(step.group)
        if before is None or not self.has_master(step.group):
            return False
        member_id = self.wanted.members[step.member].spec.member_id
        entry = MembershipEntry(step.kind, member_id, step.version)
        if change_refused(before, entry):
            return False
        after = changed(before, entry, self._instances + 1)
        if after.voters != before.voters:
            # What the master asks for, as in `core.membership_change`.
            live = [name for name in self.named(after.voters) if name in self.alive]
            if len(live) < after.majority:
                return False
            if step.kind is MembershipKind.PROMOTE and step.member not in self.alive:
                return False
        self._instances += 1
        self.configurations[step.group] = after
        if step.kind is MembershipKind.ADD:
            self.adds[step.group, step.member] += 1
        self.learn()
        return True


def _window(specs: list[MemberSpec], start: int, count: int) -> list[MemberSpec]:
    return [specs[(start + n) % len(specs)] for n in range(min(count, len(specs)))]


def make_group(cluster: ControlledCluster, group: int, names: Iterable[str]) -> bool:
    """Order a new group at some members."""
    specs = [cluster.wanted.members[name].spec for name in names]
    spec = GroupSpec(group, first_voters(specs), ())
    return cluster.change(MakeGroup(WantedGroup(spec, GroupState.MAKING, len(specs))))


@dataclass
class Controller:
    """One of those that may run: all that it keeps is since when a member does not answer."""

    policy: Policy
    silent: Counter[str] = field(default_factory=Counter)

    def look(self, cluster: ControlledCluster, unheard: Collection[str] = ()) -> Look:
        """See what is there, but for members that it does not hear this time."""
        wanted = cluster.wanted
        there = [n for n, m in wanted.members.items() if m.state is not MemberState.GONE]
        heard = [name for name in there if name in cluster.alive and name not in unheard]
        for name in there:
            self.silent[name] = 0 if name in heard else self.silent[name] + 1
        lost = frozenset(name for name in there if self.silent[name] >= LOST_AFTER)
        latest: dict[int, Configuration] = {}
        for name in heard:
            for group, each in cluster.learned.get(name, {}).items():
                if group not in latest or latest[group].config_id < each.config_id:
                    latest[group] = each
        leaving = [n for n in there if wanted.members[n].state is MemberState.LEAVING]
        members_on = {cluster.node_of.get(name) for name in heard}
        seen = Seen(
            {name: self._place(cluster, name) for name in heard},
            lost=lost,
            groups={
                group: GroupSeen(
                    each.config_id, cluster.named(each.voters), cluster.named(each.followers)
                )
                for group, each in latest.items()
            },
            ended=frozenset(
                name
                for name in leaving
                if name in lost or (name in heard and not cluster.learned.get(name))
            ),
            reachable=frozenset(
                name
                for name in there
                if name in cluster.folders - cluster.alive
                and wanted.members[name].state is not MemberState.JOINING
                and cluster.nodes[cluster.node_of[name]].takes_work
            ),
            free_nodes=tuple(
                sorted(
                    node
                    for node, each in cluster.nodes.items()
                    if each.takes_work and node not in members_on
                )
            ),
            nodes=frozenset(name for name, node in cluster.nodes.items() if node.takes_work),
            going=frozenset(n for n in heard if cluster.nodes[cluster.node_of[n]].is_going),
        )
        return Look(wanted, seen)

    def steps(self, look: Look) -> list[Step]:
        return plan(look.wanted, look.seen, self.policy)

    def _place(self, cluster: ControlledCluster, name: str) -> Place:
        node = cluster.node_of[name]
        return Place(cluster.nodes[node].zone, node)
