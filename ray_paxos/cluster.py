"""A running cluster: asked how it is, told who is to lead, stopped.

The data stays when a cluster is stopped, and when the Ray cluster under it ends.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import ParamSpec, TypeVar

import ray

from ray_paxos.actors import folders
from ray_paxos.actors.administration import Administration
from ray_paxos.actors.checkpoints import take_checkpoints
from ray_paxos.actors.controller import end_controller
from ray_paxos.actors.folders import live_nodes
from ray_paxos.actors.masters import Master, Masters, MasterWatch
from ray_paxos.actors.memberships import Memberships
from ray_paxos.actors.questions import ANSWER_TIMEOUT_S, Questions
from ray_paxos.actors.quorum_reader import QuorumReadTurn
from ray_paxos.actors.ray_connection import Connection
from ray_paxos.actors.ray_head import end_head, recorded_address
from ray_paxos.actors.roster import roster_of
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.client import CLOSE_TIMEOUT_S, Client
from ray_paxos.core.genesis import SYSTEM_GROUP
from ray_paxos.core.wanted import GroupState, MemberState
from ray_paxos.errors import (
    ConfigurationError,
    MembershipError,
    PaxosError,
)
from ray_paxos.group import Group
from ray_paxos.group_clients import LABEL, GroupClients
from ray_paxos.key_value import KeyValue
from ray_paxos.object_channel import GroupChannel
from ray_paxos.observability.alarms import FolderTrouble, cluster_alarms, member_alarms
from ray_paxos.observability.report import Answer
from ray_paxos.observability.status import ClusterStatus, MemberDigest, MemberStatus, group_status
from ray_paxos.operations import Operations
from ray_paxos.recipes.making import TTL_S, MakesRecipes
from ray_paxos.recipes.registry import REGISTRIES, Registry
from ray_paxos.replicated_handle import open_replicated
from ray_paxos.spaces import Spaces
from ray_paxos.system_group import SystemGroup
from ray_paxos.upgrades import Upgrades

LOOK_TIMEOUT_S = 1.0
P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger(__name__)


class Cluster(MakesRecipes):
    """A running cluster. Made by `start` and `connect`.

    Attributes:
        name: Its name.
        was_running: Whether its actors lived before this `start` or `connect`.
        started_ray: Whether the Ray cluster under it was started by this `start`.
    """

    def __init__(self, spec: ClusterSpec, connection: Connection, *, was_running: bool) -> None:
        """Stand for the cluster of `spec` on this process's Ray cluster."""
        self._spec = spec
        self._genesis = spec.decoded_genesis()
        self._connection = connection
        self._roster = roster_of(spec)
        self._roster.look()
        self._administration = Administration(self._roster, is_fused=spec.is_fused)
        self._questions = Questions(self._genesis.cluster, is_fused=spec.is_fused)
        self._asking = threading.Lock()
        self._gone: frozenset[str] = frozenset()
        self._masters = Masters(self._administration)
        self._memberships = Memberships(self._administration)
        self._system = SystemGroup(spec, lambda: self.client(SYSTEM_GROUP, label="system"))
        self._groups = {spec.group for spec in self._genesis.groups}
        self._turns: defaultdict[int, QuorumReadTurn] = defaultdict(QuorumReadTurn)
        self._clients = GroupClients(self._space_client, self._spec_now)
        self._spaces = Spaces(self._system, self._clients)
        self._open_space = self._spaces.open
        self.name = self._genesis.cluster
        self.was_running = was_running
        self.started_ray = connection.has_started

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, members={self.members})"

    @property
    def members(self) -> tuple[str, ...]:
        """Names of its members that this process knows: of the genesis, then those that joined."""
        return tuple(self._roster.ids)

    @property
    def member_ids(self) -> dict[str, int]:
        """Ids of the members that this process knows, by name."""
        return dict(self._roster.ids)

    @property
    def spec(self) -> ClusterSpec:
        """What its actors were told, as of when this process attached."""
        return self._spec

    @property
    def is_fused(self) -> bool:
        """Whether the four roles of a member are one actor."""
        return self._spec.is_fused

    @property
    def command_bytes_max(self) -> int:
        """A longer command is refused."""
        return self._spec.proposer.command_bytes_max

    def client(self, group: int | None = None, *, label: str = "") -> Client:
        """A client of one group, with a session of its own.

        Args:
            group: Which group; by default the first one above 0, the system's own.
            label: What a person calls the client.

        Raises:
            ConfigurationError: No such group.
        """
        number = self._group(group)
        return Client(self._spec_now(), number, label, self._turns[number])

    def kv(
        self, name: str, *, groups: Iterable[int] | None = None, creates: bool = True
    ) -> KeyValue:
        """A space of keys, spread over groups by hash; made where there is none of that name.

        Args:
            name: Of the space: lower-case letters, digits, `-` and `_`, up to 63 characters.
            groups: Numbers of the groups that hold its keys, if it has to be made; by default all
                that have a machine `kv`, the first 1,024 of them where there are more. They never
                change.
            creates: Whether it is made where it is not there.

        Raises:
            ConfigurationError: As of `Spaces.open`.
            RequestError: As of `Spaces.open`; group 0 is asked once for each name.

        Guarantee: whoever opens a space of that name, at whatever time, gets the same one.
        """
        space = self._spaces.open(name, groups, creates=creates)
        return KeyValue(space, self._clients, owns_clients=False)

    def registry(self, name: str, *, ttl_s: float = TTL_S) -> Registry:
        """A registry of who is there; see `recipes.registry`.

        Args:
            name: Of the registry; without `/`.
            ttl_s: After so long an entry whose process says nothing is gone.
        """
        return Registry(name, self.kv(REGISTRIES), ttl_s=ttl_s)

    def replicated(self, cls: Callable[P, T], name: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A replicated object; made where there is none of that name. See `ray_paxos.Replicated`.

        Args:
            cls: Its class, a `Replicated`; sent once, with the object.
            name: Of the object. The group that has it is given by the hash of its name: objects
                of many names are spread over all groups.
            args: Of the constructor, which runs on the members if there is no such object.
            kwargs: Also.

        Returns:
            A handle; for type checkers an instance of the class.

        Raises:
            ConfigurationError: The class, the name or an argument cannot be sent; nothing happened.
            TypeError: The arguments do not fit the constructor; nothing happened.
            CommandError: The object is of another class or version.
            RequestError: As `Client.propose`.
            Exception: What the constructor raised; there is no such object then.
        """
        group = self._group_of_name("Replicated", name)
        return open_replicated(GroupChannel(group, self._clients), cls, name, *args, **kwargs)

    @property
    def spaces(self) -> Spaces:
        """The spaces of keys: which there are, and dropping one."""
        return self._spaces

    def status(self) -> ClusterStatus:
        """Members, their roles, every group's master and positions, and what is wrong.

        Waits at most 1 s for group 0, which says who has left for ever, and 5 s for the roles;
        where an acceptor does not serve, for as long again, to find out whether its folder is still
        there.
        """
        gone = self.members_gone()
        found = tuple(m for m in self._administration.statuses() if m.name not in gone)
        numbers = sorted(self._groups | _groups_of(found))
        groups = tuple(group_status(number, found) for number in numbers)
        troubles = self._folder_troubles(found)
        alarms = {
            member.name: member_alarms(member, self._spec.checkpointer, troubles.get(member.name))
            for member in found
        }
        members = tuple(
            replace(member, alarms=tuple(alarm.text for alarm in alarms[member.name]))
            for member in found
        )
        leaderless = [group.group for group in groups if group.master is None]
        told = cluster_alarms(alarms, leaderless)
        return ClusterStatus(self.name, self._genesis.cluster_id, members, groups, told)

    def reports(
        self, *, with_slow: bool = False, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> dict[tuple[str, str], Answer]:
        """What every role tells whoever watches: its state, its counts, its last events.

        Args:
            with_slow: Whether what was slow is wanted, too.
            timeout_s: How long to wait for all of them together.

        Returns:
            By (member, role): its state and its report; or why there is none, for a person.
        """
        with self._asking:
            return self._questions.ask(self.members, {}, timeout_s, with_slow=with_slow)

    def flush(self, group: int | None = None, *, timeout_s: float = 30.0) -> None:
        """Seal everything learned so far into Parquet segments, on all members that answer.

        Args:
            group: Which group; by default all of them.
            timeout_s: How long to wait.

        Raises:
            ClusterError: A member that answers did not get there in time.
        """
        groups = sorted(self._groups) if group is None else [self._group(group)]
        self._administration.flush(groups, time.monotonic() + timeout_s)

    def checkpoint(self, group: int | None = None, *, timeout_s: float = 60.0) -> dict[str, int]:
        """Make a checkpoint of everything learned so far, on all members that answer.

        Args:
            group: Which group; by default as of `client`.
            timeout_s: How long to wait.

        Returns:
            By member, the instance of its newest checkpoint; 0 where nothing was ever chosen. A
            member that does not answer is left out.

        Raises:
            ConfigurationError: No such group.
            CheckpointError: A member could not make it; says which, and why.
            ClusterError: None answers, or a member that answers was not done in time.

        Guarantee: each is whole on that member's disk when this returns, and its restart begins
        there.
        """
        number = self._group(group)
        return take_checkpoints(self._administration, number, time.monotonic() + timeout_s)

    def member_digests(
        self, group: int | None = None, *, timeout_s: float = 60.0
    ) -> dict[str, MemberDigest]:
        """Digests of the members' states, once all that answer are equally far.

        Args:
            group: Which group; by default as of `client`.
            timeout_s: How long to wait for those that are behind.

        Returns:
            By member; one that does not answer is left out.

        Raises:
            ClusterError: They did not get there in time, or none answers.
        """
        deadline = time.monotonic() + timeout_s
        return self._administration.digests(self._group(group), deadline)

    def log_dir(self, member: str | None = None) -> str:
        """The folder of a member's chosen log, on that member's node.

        Args:
            member: Its name; by default the first one's.

        Raises:
            ConfigurationError: No such member.
            ClusterError: Its learner does not answer.
        """
        name = self._checked(member) if member is not None else self.members[0]
        return self._administration.log_folder(name)

    def master(self, group: int | None = None) -> Master | None:
        """The latest master of a group that any member knows of; None before the first.

        Args:
            group: Which group; by default as of `client`.
        """
        return self._masters.latest(self._group(group))

    def wait_for_master(
        self, group: int | None = None, *, after_version: int = 0, timeout_s: float = 30.0
    ) -> Master | None:
        """Wait for a master later than a known one.

        Args:
            group: Which group; by default as of `client`.
            after_version: The known one's version; 0 for any.
            timeout_s: How long to wait.

        Returns:
            The later one; None where none came in time.
        """
        return self._masters.wait_for_later(self._group(group), after_version, timeout_s)

    def watch_master(
        self, callback: Callable[[Master], None], group: int | None = None
    ) -> MasterWatch:
        """Be called back with the master of a group, and with every later one.

        Args:
            callback: Called from a thread of its own, one call at a time. Masters that are gone
                again before anybody asks may be left out.
            group: Which group; by default as of `client`.

        Returns:
            The watch, to be closed.
        """
        return MasterWatch(self._masters, self._group(group), callback)

    def drop_master(self, group: int | None = None, *, timeout_s: float = 10.0) -> str | None:
        """Have the master of a group give up the lead, and stand back for a while.

        Args:
            group: Which group; by default as of `client`.
            timeout_s: How long to try.

        Returns:
            The member that was asked to lead next; None where none answers.

        Raises:
            TransferError: It was refused, or nobody answered as the master in time.
        """
        return self._masters.hand_over(self._group(group), None, timeout_s)

    def transfer_master(
        self, member: str, group: int | None = None, *, timeout_s: float = 10.0
    ) -> None:
        """Have the master of a group hand over to another member.

        Args:
            member: Name of the member to lead next; nothing happens where it leads already.
            group: Which group; by default as of `client`.
            timeout_s: How long to try.

        Raises:
            ConfigurationError: No such member.
            TransferError: It was refused (the member does not answer, or is too far behind), or
                nobody answered as the master in time.
        """
        self._masters.hand_over(self._group(group), self._checked(member), timeout_s)

    def group(self, group: int | None = None) -> Group:
        """One group, to see and change who has it.

        Args:
            group: Its number; by default as of `client`.

        Raises:
            ConfigurationError: No such group.
        """
        return Group(self._group(group), self._memberships, self._checked, self._check_may_join)

    @property
    def operations(self) -> Operations:
        """Adds and removes members and groups."""
        return Operations(self._spec, self._administration, self._memberships, self._system)

    @property
    def upgrades(self) -> Upgrades:
        """Restarts members one by one, and raises the cluster's version."""
        return Upgrades(self._spec, self._administration, self._masters, self._system)

    def stop(
        self, *, delete_data: bool = False, shutdown_ray: bool = False, timeout_s: float = 30.0
    ) -> None:
        """Stop all roles cleanly and end their actors. The data stays.

        Args:
            delete_data: Delete the members' folders on all live nodes, too: what is in them is
                lost for good.
            shutdown_ray: Also end the Ray cluster under it if a `start` of ours started it.
            timeout_s: How long roles may take to close.

        Raises:
            PaxosError: A folder could not be deleted.
        """
        deadline = time.monotonic() + timeout_s
        end_controller(self.name, timeout_s)
        self._clients.close(timeout_s=max(min(CLOSE_TIMEOUT_S, deadline - time.monotonic()), 0.0))
        self._system.close()
        self._roster.look(at_once=True)
        self._administration.stop(deadline)
        if delete_data:
            folders.delete(self.name, self._spec.data_dir, self._places())
        folder = folders.cluster_folder(self.name, self._spec.data_dir)
        is_kept = recorded_address(folder) == self._connection.address
        if shutdown_ray and (self.started_ray or is_kept):
            ray.shutdown()
            if is_kept:
                end_head(folder)

    def machines(self, group: int) -> dict[str, str]:
        """Kinds of the machines that a group starts with, by name, as far as anybody says now.

        Args:
            group: Its number; of one that is not known the result is empty.
        """
        return self._system.machines(group, timeout_s=LOOK_TIMEOUT_S)

    def members_gone(self) -> frozenset[str]:
        """Names of members that have left for ever; as last known, where nobody says so now."""
        with contextlib.suppress(PaxosError):
            wanted = self._system.last_known(timeout_s=LOOK_TIMEOUT_S)
            members = wanted.members.values()
            self._gone = frozenset(m.spec.name for m in members if m.state is MemberState.GONE)
        return self._gone

    def _folder_troubles(self, members: Iterable[MemberStatus]) -> dict[str, FolderTrouble]:
        """Of members whose acceptor does not serve: whether their folders are there and whole."""
        silent = [m.name for m in members if m.roles["acceptor"].phase != "serving"]
        if not silent:
            return {}
        reports = folders.look_into(self.name, self._spec.data_dir, live_nodes())
        found = {folder.member: folder for report in reports for folder in report.folders}
        troubles = {
            name: FolderTrouble(False, found[name].reason)
            for name in silent
            if name in found and found[name].reason
        }
        if all(report.answered for report in reports):
            what = "its folder is gone, or on no live node of the Ray cluster"
            troubles |= {name: FolderTrouble(True, what) for name in silent if name not in found}
        return troubles

    def _places(self) -> dict[str, str]:
        """node_id of every member of this cluster that is on the disk of a live node."""
        reports = folders.look_into(self.name, self._spec.data_dir, live_nodes())
        return {
            folder.member: report.node_id
            for report in reports
            for folder in report.folders
            if folder.genesis is not None and folder.genesis.hash() == self._genesis.hash()
        }

    def _space_client(self, group: int) -> Client:
        """Of a group that a space names: it is there as long as the space is."""
        return Client(self._spec_now(), group, LABEL, self._turns[group])

    def _spec_now(self) -> bytes:
        """The cluster's, encoded, with all members that this process knows."""
        return self._spec.knowing(self._roster.joined).encoded()

    def _checked(self, member: str) -> str:
        if member not in self.members:
            self._roster.look(at_once=True)
        if member not in self.members:
            allowed = ", ".join(self.members)
            raise ConfigurationError(f"member: found {member!r}; allowed: {allowed}")
        return member

    def _check_may_join(self, member: str) -> None:
        """Refuse to give a group to one whose folder may still be made anew (`core.wanted`)."""
        if all(each.name != member for each in self._roster.joined):
            return
        found = self._system.wanted().members.get(member)
        if found is None or found.state not in (MemberState.PRESENT, MemberState.DRAINED):
            state = found.state.name.lower() if found is not None else "unknown to group 0"
            raise MembershipError(f"member {member} is {state}: it cannot be given a group")

    def _group(self, group: int | None) -> int:
        if group is None:
            return min((g for g in self._groups if g != SYSTEM_GROUP), default=SYSTEM_GROUP)
        if group not in self._groups:
            self._learn_groups()
        if group not in self._groups:
            allowed = ", ".join(map(str, sorted(self._groups)))
            raise ConfigurationError(f"group: found {group}; allowed: {allowed}")
        return group

    def _learn_groups(self) -> None:
        """See in group 0 which groups were made, and dropped, after the genesis."""
        wanted = self._system.wanted()
        states = {number: group.state for number, group in wanted.groups.items()}
        self._groups |= {n for n, state in states.items() if state is GroupState.PRESENT}
        self._groups -= {n for n, state in states.items() if state is GroupState.GONE}


def _groups_of(members: Iterable[MemberStatus]) -> set[int]:
    """The groups that any member has."""
    learners = [member.roles["learner"].groups or {} for member in members]
    return {group for groups in learners for group in groups}


__all__ = [
    "Cluster",
    "ClusterStatus",
    "MemberDigest",
    "MemberStatus",
]
