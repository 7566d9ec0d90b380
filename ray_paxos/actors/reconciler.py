"""Brings a cluster to what group 0 wants: looks, plans (`core.reconciliation`), takes the steps.

A round keeps nothing but since when a member does not answer. It may be run by the controller, by a
driver that has changed what is wanted, or by both at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ray.exceptions import RayError

from ray_paxos.actors import folders
from ray_paxos.actors.administration import Administration, ask_all, messages_in
from ray_paxos.actors.launching import actor_names, live_actor_names
from ray_paxos.actors.member_making import (
    check_new_member,
    find_folders,
    launch_member,
    make_member,
    new_member,
)
from ray_paxos.actors.memberships import Memberships
from ray_paxos.actors.placement import RayNode, free_nodes, going_nodes
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.messages import Message, OrderDone, RoleName
from ray_paxos.core.parts import Part
from ray_paxos.core.parts_messages import DropPart, TakePart
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
from ray_paxos.core.settings import ControllerSettings
from ray_paxos.core.spreading import Place
from ray_paxos.core.wanted import MemberState, Wanted
from ray_paxos.core.wanted_changes import (
    GroupDropped,
    GroupMade,
    JoinMember,
    LeaveMember,
    MemberEnding,
    MemberJoined,
    MemberLeft,
)
from ray_paxos.errors import ClusterError, PaxosError
from ray_paxos.system_group import SystemGroup

LOOK_TIMEOUT_S = 3.0
CHANGE_TIMEOUT_S = 10.0
ORDER_TIMEOUT_S = 10.0
ORDER_AGAIN_S = 0.1
FOLDERS_AGAIN_S = 5.0
"""Looking into all nodes' folders takes a process on each: not in every round."""
ZONE_LABEL = "ray.io/availability-zone"

_logger = logging.getLogger(__name__)


@dataclass
class Round:
    """What one round came to.

    Attributes:
        wanted: As it was read.
        seen: What was there.
        nodes: The Ray nodes that were there.
        taken: Steps that were carried out.
        failed: Steps that were not, and why.
    """

    wanted: Wanted
    seen: Seen
    nodes: Sequence[RayNode] = ()
    taken: list[Step] = field(default_factory=list)
    failed: dict[Step, str] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether there was nothing to do."""
        return not self.taken and not self.failed


class Reconciler:
    """Runs rounds, one after the other."""

    def __init__(
        self,
        spec: ClusterSpec,
        administration: Administration,
        memberships: Memberships,
        system: SystemGroup,
        settings: ControllerSettings,
    ) -> None:
        """Have looked at nothing yet.

        Args:
            spec: The cluster's.
            administration: Asks its members.
            memberships: Changes who has a group.
            system: Group 0.
            settings: How far to go.
        """
        self._spec = spec
        self._administration = administration
        self._memberships = memberships
        self._system = system
        self._settings = settings
        self._silent_since: dict[str, float] = {}
        self._lives_on: Mapping[str, str] = {}
        self._folders: Mapping[str, str] = {}
        self._folders_again = 0.0
        self._failed: set[Step] = set()

    def run_round(self) -> Round:
        """Look once, and take the steps that can be taken now.

        Returns:
            What came of it; a step that failed is taken again by a later round.

        Raises:
            PaxosError: Group 0 does not answer.
        """
        wanted = self._system.wanted()
        self._administration.roster.meet(
            member.spec for member in wanted.members.values() if member.node_id
        )
        nodes = folders.live_nodes()
        seen = self._look(wanted, nodes)
        settings = self._settings
        policy = Policy(settings.missing_max, settings.spreads, settings.grows)
        steps = plan(wanted, seen, policy)
        # What failed in the round before holds up nothing else.
        steps = sorted(steps, key=self._failed.__contains__)[: 2 * settings.moves_max]
        self._failed.clear()
        outcome = Round(wanted, seen, nodes)
        if not steps:
            return outcome
        with ThreadPoolExecutor(self._settings.moves_max) as pool:
            carried = pool.map(partial(self._carry_out, wanted, nodes), steps)
            for step, problem in zip(steps, carried, strict=True):
                if problem is None:
                    outcome.taken.append(step)
                else:
                    outcome.failed[step] = problem
                    self._failed.add(step)
                    _logger.info("%s: %s", step, problem)
        return outcome

    # Looking.

    def look(self) -> Seen:
        """What is there; takes no steps.

        Raises:
            PaxosError: Group 0 does not answer.
        """
        return self._look(self._system.wanted(), folders.live_nodes())

    def _look(self, wanted: Wanted, nodes: Sequence[RayNode]) -> Seen:
        there = [n for n, m in wanted.members.items() if m.state is not MemberState.GONE]
        answers = ask_all(
            {
                name: partial(self._administration.call, name, RoleName.LEARNER, "memberships")
                for name in there
            },
            LOOK_TIMEOUT_S,
        )
        told = {name: each for name, each in answers.items() if isinstance(each, dict)}
        now = time.monotonic()
        for name in there:
            if name in told:
                self._silent_since.pop(name, None)
            else:
                self._silent_since.setdefault(name, now)
        lost_s = self._settings.replace_after_ns / 1e9
        lost = {n for n in there if n not in told and now - self._silent_since[n] >= lost_s}
        by_id = {node.node_id: node for node in nodes}
        going = going_nodes(nodes)
        on = self._lives_on = {name: str(each["node_id"]) for name, each in told.items()}
        return Seen(
            {name: _place(by_id.get(node_id), node_id) for name, node_id in on.items()},
            lost=frozenset(lost),
            groups=self._groups(told.values()),
            ended=frozenset(self._ended(wanted, told, lost)),
            reachable=frozenset(self._reachable(wanted, told, nodes)),
            free_nodes=free_nodes(nodes, on.values(), self._settings.grows_on),
            going=frozenset(name for name, node_id in on.items() if node_id in going),
            nodes=frozenset(by_id) - going,
        )

    def _groups(self, told: Any) -> dict[int, GroupSeen]:
        latest: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
        for each in told:
            joined = [MemberSpec(name, member_id) for name, member_id in each["joined"]]
            self._administration.roster.meet(joined)
            for group, configuration in each["groups"].items():
                latest[group] = max(latest.get(group, (-1, (), ())), configuration)
        name = self._administration.roster.name
        return {
            group: GroupSeen(
                version, tuple(sorted(map(name, voters))), tuple(sorted(map(name, followers)))
            )
            for group, (version, voters, followers) in latest.items()
        }

    def _ended(self, wanted: Wanted, told: Mapping[str, Any], lost: set[str]) -> set[str]:
        """Members that are to leave, and have let go of everything, or will never answer."""
        leaving = [n for n, m in wanted.members.items() if m.state is MemberState.LEAVING]
        return {n for n in leaving if n in lost or (n in told and not told[n]["held"])}

    def _reachable(
        self, wanted: Wanted, told: Mapping[str, Any], nodes: Sequence[RayNode]
    ) -> set[str]:
        """Members that lack an actor, whose folder is on a live node."""
        standing = (MemberState.PRESENT, MemberState.LEAVING, MemberState.DRAINED)
        silent = [
            name
            for name, member in wanted.members.items()
            if member.state in standing and name not in told
        ]
        if not silent:
            return set()
        live = live_actor_names(self._spec.decoded_genesis().cluster)
        lacking = [n for n in silent if not actor_names(self._spec, n).keys() <= live]
        if not lacking or time.monotonic() < self._folders_again:
            return set()
        self._folders_again = time.monotonic() + FOLDERS_AGAIN_S
        self._folders = find_folders(self._known_spec(wanted), lacking, nodes)
        return set(self._folders)

    def _known_spec(self, wanted: Wanted) -> ClusterSpec:
        spec = self._spec.knowing(self._administration.roster.joined)
        return spec.under(wanted.cluster_version)

    # Steps.

    def _carry_out(self, wanted: Wanted, nodes: Sequence[RayNode], step: Step) -> str | None:
        """Take one step; what kept it from being taken, as a text."""
        try:
            self._take(wanted, nodes, step)
        except PaxosError as error:
            return str(error)
        except RayError as error:
            return folders.explain(error)
        return None

    def _take(self, wanted: Wanted, nodes: Sequence[RayNode], step: Step) -> None:
        match step:
            case AddMember(node_id=node_id):
                # Whoever else adds one there gives it the same name, and only one of them does.
                name = f"n-{node_id[:12]}"
                # No other node's member is called so: one that is drained, and does not say what
                # it holds, holds up nothing.
                staying = [node for node in nodes if not node.is_going]
                check_new_member(self._spec, name, node_id, staying)
                self._system.change(JoinMember(new_member(name, node_id)))
            case RetireMember(member=name):
                self._system.change(LeaveMember(name))
            case MakeMember(member=name):
                member = wanted.members[name]
                if make_member(self._known_spec(wanted), member, self._system.wanted, nodes):
                    self._system.change(MemberJoined(name))
                    launch_member(self._known_spec(wanted), member, member.node_id, nodes)
            case LaunchMember(member=name):
                member = wanted.members[name]
                launch_member(self._known_spec(wanted), member, self._folders[name], nodes)
            case EndMember(member=name):
                self._end(wanted, name, nodes)
            case ChangeGroup(group=group, kind=kind, member=name, version=version):
                self._memberships.change(
                    group, kind, name, timeout_s=CHANGE_TIMEOUT_S, version=version
                )
            case GiveGroup(group=group):
                self._give(wanted, group)
            case TakeGroupAway(group=group):
                self._take_away(wanted, group)

    def _end(self, wanted: Wanted, name: str, nodes: Sequence[RayNode]) -> None:
        if wanted.members[name].state is not MemberState.ENDING:
            # Whoever was slow finds here that it stays after all.
            self._system.change(MemberEnding(name, wanted.version))
        deadline = time.monotonic() + CHANGE_TIMEOUT_S
        # One that answers has its folder where it lives; a look starts a process on every node.
        own = [node for node in nodes if node.node_id == self._lives_on.get(name)]
        found = find_folders(self._known_spec(wanted), (name,), own or nodes)
        self._administration.stop(deadline, members=(name,))
        # It will never be used again: what is left in it are tombstones of groups.
        folders.delete(self._spec.decoded_genesis().cluster, self._spec.data_dir, found)
        self._system.change(MemberLeft(name))

    def _give(self, wanted: Wanted, group: int) -> None:
        spec = wanted.groups[group].spec
        orders: dict[str, Message] = {}
        for voter in spec.voters:
            member = wanted.member_of(voter.member_id)
            if member is not None and member.state is not MemberState.GONE:
                part = Part(voter.replica_id, spec, spec.configuration)
                orders[member.spec.name] = TakePart(part)
        self._order(group, orders)
        self._system.change(GroupMade(group))

    def _take_away(self, wanted: Wanted, group: int) -> None:
        over = (MemberState.ENDING, MemberState.GONE)
        there = [n for n, m in wanted.members.items() if m.state not in over]
        self._order(group, dict.fromkeys(there, DropPart()))
        self._system.change(GroupDropped(group))

    def _order(self, group: int, orders: Mapping[str, Message]) -> None:
        """Give members' learners an order, and have all of them say that it is done.

        Raises:
            ClusterError: One did not.
        """
        deadline = time.monotonic() + ORDER_TIMEOUT_S
        open_orders = dict(orders)
        while True:
            problems = self._order_once(group, open_orders)
            open_orders = {name: open_orders[name] for name in problems}
            if not open_orders:
                return
            if time.monotonic() >= deadline:
                listed = "; ".join(f"{name}: {why}" for name, why in sorted(problems.items()))
                raise ClusterError(f"group {group}: {listed}")
            # Whoever carries an order out answers the next copy of it.
            time.sleep(ORDER_AGAIN_S)

    def _order_once(self, group: int, orders: Mapping[str, Message]) -> dict[str, str]:
        """Give each an order; why it is not done, by name, of those who have not done it."""

        def send(name: str, message: Message) -> Callable[[], Any]:
            return partial(self._administration.send, name, RoleName.LEARNER, group, message)

        answers = ask_all({n: send(n, m) for n, m in orders.items()}, LOOK_TIMEOUT_S)
        problems = {}
        for name, answer in answers.items():
            done = [m for m in messages_in(answer) if isinstance(m, OrderDone)]
            if not done:
                problems[name] = "has not said that it is done"
            elif done[0].refused:
                problems[name] = done[0].refused
        return problems


def _place(node: RayNode | None, node_id: str) -> Place:
    """Where a member is, by what Ray says of its node."""
    zone = node.labels.get(ZONE_LABEL, "") if node is not None else ""
    return Place(zone, node_id)
