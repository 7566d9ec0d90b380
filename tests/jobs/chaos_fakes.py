"""A cluster in this process for chaos runs: real machines, no Ray, no Paxos, and faults on demand.

What is wrong with it is chosen by `Flaws`: each is one that a check of the job has to see.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from msgspec import structs

from chaos_cluster import CONTROLLER, Life, MemberLog, Place, Sight
from chaos_cuts import Directions
from chaos_plan import ROLES, FaultKind
from ray_paxos.config import ClusterConfiguration
from ray_paxos.core import events
from ray_paxos.core.wanted import MemberState
from ray_paxos.errors import (
    MembershipError,
    NotAppliedError,
    OutcomeUnknownError,
    QueryError,
    TransferError,
)
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.observability.event_kinds import level_of
from ray_paxos.observability.event_record import EventRecord

COLUMNS: dict[str, pa.DataType] = {
    "instance_id": pa.int64(),
    "index": pa.int32(),
    "kind": pa.string(),
    "machine": pa.string(),
    "session": pa.string(),
    "number": pa.int64(),
    "command": pa.binary(),
    "chain": pa.binary(),
}


IN_THE_RUN_MS = 0
"""As the time of an event: when it is read."""


def happened(
    kind: str, member: str = "m1", at_ms: int = IN_THE_RUN_MS, **fields: Any
) -> EventRecord:
    """An event in group 1, as a member's file has it."""
    return EventRecord(
        sequence=1,
        at_ms=at_ms,
        cluster="local",
        member=member,
        role="proposer",
        group=1,
        kind=kind,
        level=level_of(getattr(events, kind)),
        text=f"tells of {kind}",
        fields=fields,
    )


STARTED = happened("MasterStarted", ballot=[1, 1, 1], instance_id=1)


def log_table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(COLUMNS.values())]
    return pa.table(columns, names=list(COLUMNS))


@dataclass
class Flaws:
    """What the cluster does wrong.

    Each number says for which command or read of its kind, counted from 1; 0 for none.
    """

    lost_append: int = 0
    doubled_append: int = 0
    doubled_put: int = 0
    refused_but_applied: int = 0
    unknown_every: int = 0
    refused_every: int = 0
    failed_read_every: int = 0
    stale_read: int = 0
    stale_follower: int = 0
    refuses_command: int = 0
    crash_at: int = 0
    silent_at: int = 0
    silent_s: float = 0.0
    other_digest: bool = False
    other_row: bool = False
    damaged_log: bool = False
    short_log: bool = False
    never_back: bool = False
    transfers_fail: bool = False
    changes_fail: bool = False
    votes_again: bool = False
    events: Sequence[EventRecord] = (STARTED,)
    unread_events: Sequence[str] = ()
    of_group: int = 0
    """The only group that is flawed; 0 for all."""


@dataclass
class FakeGroup:
    """One group: commands are applied under a lock, one instance each."""

    flaws: Flaws
    machines: dict[str, Any] = field(
        default_factory=lambda: {"kv": KeyValueMachine(), "log": LogMachine()}
    )
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    counts: dict[str, itertools.count[int]] = field(default_factory=dict)
    older: dict[bytes, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    open_gate: threading.Event = field(default_factory=threading.Event)

    def nth(self, kind: str) -> int:
        return next(self.counts.setdefault(kind, itertools.count(1)))

    def apply(self, machine: str, command: bytes, session: str, number: int) -> Any:
        value = self.machines[machine].apply(command, ApplyContext())
        instance = len(self.rows) + 1
        row = (instance, 0, "command", machine, session, number, command, b"%016d" % instance)
        self.rows.append(row)
        return SimpleNamespace(value=value, instance_id=instance, index=0)


class FakeClient:
    """One session."""

    def __init__(self, group: FakeGroup, session: str) -> None:
        self.group = group
        self.session = session
        self.number = 0
        self.is_closed = False

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close(timeout_s=0.0)

    def close(self, *, timeout_s: float) -> None:
        self.is_closed = True

    def propose(self, command: bytes, machine: str, *, timeout_s: float) -> Any:
        group, flaws = self.group, self.group.flaws
        with group.lock:
            self.number += 1
            nth = group.nth("command")
            if nth == flaws.silent_at:
                time.sleep(flaws.silent_s)
            if nth == flaws.crash_at:
                raise RuntimeError("a bug in the client")
            if flaws.refused_every and nth % flaws.refused_every == 0:
                raise NotAppliedError("no master")
            if flaws.unknown_every and nth % flaws.unknown_every == 0:
                if nth % (2 * flaws.unknown_every) == 0:
                    group.apply(machine, command, self.session, self.number)
                raise OutcomeUnknownError("no answer")
            if nth == flaws.refuses_command:
                raise QueryError("what no command ends with")
            if machine == "log":
                nth = group.nth("append")
                if nth == flaws.lost_append:
                    length = len(group.machines["log"]._lines) + 1
                    result = SimpleNamespace(
                        value=b"%d" % length, instance_id=len(group.rows) + 1, index=0
                    )
                    group.rows.append((*self.row(group, machine, command),))
                    return result
                if nth == flaws.doubled_append:
                    group.apply(machine, command, self.session, self.number)
                if nth == flaws.refused_but_applied:
                    group.apply(machine, command, self.session, self.number)
                    raise NotAppliedError("not true")
            elif command[1:4] == b"\xa3pu":
                nth = group.nth("put")
                if nth == flaws.doubled_put:
                    group.apply(machine, command, self.session, self.number)
            return group.apply(machine, command, self.session, self.number)

    def row(self, group: FakeGroup, machine: str, command: bytes) -> tuple[Any, ...]:
        instance = len(group.rows) + 1
        chain = b"%016d" % instance
        return (instance, 0, "command", machine, self.session, self.number, command, chain)

    def query(
        self,
        request: bytes,
        machine: str,
        *,
        consistency: str,
        at_least: int | None,
        max_staleness_ms: int | None,
        timeout_s: float,
    ) -> bytes:
        group, flaws = self.group, self.group.flaws
        with group.lock:
            nth = group.nth(consistency)
            every = flaws.failed_read_every
            if every and nth % every == 0 and timeout_s < 10:
                raise QueryError("no answer")
            answer: bytes = group.machines[machine].query(request)
            if machine == "log":
                return answer
            older = group.older.setdefault(request, answer)
            limit = flaws.stale_follower if consistency == "follower" else flaws.stale_read
            if limit and nth >= limit and answer != older:
                return older
            return answer


@dataclass
class FakeChangedGroup:
    """Who has one group."""

    number: int
    changes: FakeChanges

    def members(self) -> Any:
        voters = self.changes.voters[self.number]
        return SimpleNamespace(voters=tuple(sorted(voters)), followers=())

    def add(self, member: str, *, timeout_s: float) -> Any:
        return self.change("add", member)

    def promote(self, member: str, *, timeout_s: float) -> Any:
        self.changes.voters[self.number].add(member)
        return self.change("promote", member)

    def remove(self, member: str, *, timeout_s: float) -> Any:
        self.change("remove", member)
        self.changes.voters[self.number].discard(member)
        return self.members()

    def move(self, source: str, target: str, *, timeout_s: float) -> Any:
        self.add(target, timeout_s=timeout_s)
        self.promote(target, timeout_s=timeout_s)
        return self.remove(source, timeout_s=timeout_s)

    def change(self, what: str, member: str) -> Any:
        if self.changes.flaws.changes_fail:
            raise MembershipError("it is too far behind")
        self.changes.made.append((self.number, what, member))
        return self.members()


class FakeChanges:
    """Who has which group, and every change of that."""

    def __init__(self, members: Sequence[str], groups: Sequence[int], flaws: Flaws) -> None:
        self.members = members
        self.ever = list(members)
        self.orders_failing = 0
        self.orders_late = False
        self.gone: list[str] = []
        self.voters = {group: set(members) for group in groups}
        self.made: list[tuple[int, str, str]] = []
        self.flaws = flaws

    def group(self, group: int) -> FakeChangedGroup:
        return FakeChangedGroup(group, self)

    @property
    def operations(self) -> FakeOrders:
        return FakeOrders(self)

    def having(self, group: int) -> list[str]:
        return [name for name in self.members if name in self.voters[group]]


@dataclass
class FakeOrders:
    """What a reconciler is told, and does at once."""

    changes: FakeChanges

    def wanted(self) -> Any:
        def pinned(name: str) -> Any:
            state = MemberState.GONE if name in self.changes.gone else MemberState.PRESENT
            return SimpleNamespace(labels=(("host", "h1"),), resource="", state=state)

        return SimpleNamespace(members={name: pinned(name) for name in self.changes.ever})

    def place_group(
        self, group: int, members: Sequence[str], *, timeout_s: float
    ) -> tuple[str, ...]:
        self._order((group, "place", ",".join(members)))
        if members:
            self.changes.voters[group] = set(members)
        return tuple(members)

    def replace_member(
        self,
        name: str,
        successor: str,
        *,
        labels: Any,
        resource: str,
        timeout_s: float,
    ) -> None:
        assert name not in self.changes.gone, "that would be refused, however often"
        if self.changes.orders_late:
            self.changes.gone.append(name)
        self._order((0, "replace", f"{name} by {successor}, {labels}"))
        for voters in self.changes.voters.values():
            if name in voters:
                voters.remove(name)
                voters.add(successor)
        self.changes.members = [*self.changes.members, successor]
        self.changes.ever.append(successor)

    def _order(self, order: tuple[int, str, str]) -> None:
        self.changes.made.append(order)
        if self.changes.orders_failing:
            self.changes.orders_failing -= 1
            raise MembershipError("it still stands")


class FakeExecutor(Executor):
    """Does everything at once, or once it is told to."""

    def __init__(self) -> None:
        self.is_waiting = False
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*arguments, **options)))
        if not self.is_waiting:
            self.do_all()
        return future

    def do_all(self) -> None:
        waiting, self.waiting = self.waiting, []
        for future, work in waiting:
            try:
                future.set_result(work())
            except MembershipError as error:
                future.set_exception(error)


class FakeNodes:
    """Nodes, disks and a GCS that do as they are told."""

    address = "fake:6379"

    def __init__(self, processes: FakeMembers | None = None, *, has_links: bool = True) -> None:
        self.processes = processes
        self.has_links = has_links
        self.lost: Directions = frozenset()
        self.site_of: dict[str, str] = {}
        self.count = 0
        self.did: list[str] = []

    def kill(self, member: str) -> None:
        self.did.append(f"kill {member}")
        assert self.processes is not None
        for place in self.processes.places:
            if self.site_of.get(place[0], place[0]) == member:
                self.processes.back_ns[place] = 2**62

    def start(self, member: str) -> None:
        self.did.append(f"start {member}")
        assert self.processes is not None
        lives = [
            life
            for place, life in self.processes.lives.items()
            if self.site_of.get(place[0], place[0]) == member
        ]
        self.processes.kill(lives)
        self.processes.killed.pop()

    @property
    def links(self) -> FakeNodes | None:
        return self if self.has_links else None

    def lose(self, directions: Directions) -> None:
        self.lost = directions
        self.did.append(f"lose {len(directions)}")

    def kill_gcs(self) -> None:
        self.did.append("kill gcs")

    def start_gcs(self) -> None:
        self.did.append("start gcs")

    def slow_disk(self, member: str, freeze_s: float, for_s: float) -> None:
        self.did.append(f"slow {member}")

    def fill_disk(self, member: str, for_s: float) -> None:
        self.did.append(f"fill {member}")

    def heal_disks(self) -> None:
        self.did.append("heal")


class FakeChaosCluster:
    """What a chaos run uses of `ray_paxos.Cluster`."""

    def __init__(self, configuration: ClusterConfiguration, flaws: Flaws) -> None:
        self.name = configuration.cluster
        names = tuple(member.name for member in configuration.members)
        self.was_running = False
        self.flaws = flaws
        self.groups = {
            each.group: FakeGroup(flaws if flaws.of_group in (0, each.group) else Flaws())
            for each in configuration.groups
        }
        self.changes = FakeChanges(names, [0, *self.groups], flaws)
        self.sessions = itertools.count(1)
        self.stopped = 0
        self.handed_over: list[str | None] = []

    def client(self, group: int, *, label: str) -> FakeClient:
        return FakeClient(self.groups[group], f"{next(self.sessions)}.0")

    def status(self) -> Any:
        groups = []
        for number, group in self.groups.items():
            position = SimpleNamespace(applied_through=len(group.rows))
            groups.append(SimpleNamespace(group=number, positions={"m1": position}))
        return SimpleNamespace(groups=tuple(groups))

    def group(self, group: int) -> FakeChangedGroup:
        return self.changes.group(group)

    @property
    def operations(self) -> FakeOrders:
        return self.changes.operations

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(self.changes.members)

    def members_gone(self) -> frozenset[str]:
        return frozenset()

    def flush(self, group: int) -> None:
        pass

    def member_digests(self, group: int, *, timeout_s: float) -> Any:
        digests = {
            name: SimpleNamespace(applied_instance_id=len(self.groups[group].rows), digest="ab")
            for name in self.changes.having(group)
        }
        if self.groups[group].flaws.other_digest:
            digests["m2"].digest = "cd"
        return digests

    def drop_master(self, group: int, *, timeout_s: float) -> str | None:
        self._hand_over(None)
        return None

    def transfer_master(self, member: str, group: int, *, timeout_s: float) -> None:
        self._hand_over(member)

    def _hand_over(self, member: str | None) -> None:
        self.handed_over.append(member)
        if self.flaws.transfers_fail:
            raise TransferError("it is too far behind")

    def stop(self) -> None:
        self.stopped += 1


class FakeMembers:
    """Processes that come back a while after they were killed, under another id."""

    def __init__(
        self,
        members: Sequence[str],
        *,
        back_after_s: float = 0.05,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        logs: Callable[[int], dict[str, MemberLog]] = lambda group: {},
        never_back: bool = False,
    ) -> None:
        self.pids = itertools.count(100)
        self.places = [(member, role) for member in members for role in ROLES]
        self.lives = {place: self.new_life() for place in self.places}
        self.back_ns: dict[Place, int] = {}
        self.paused: dict[Place, int] = {}
        self.back_after_s = back_after_s
        self.clock_ns = clock_ns
        self.logs = logs
        self.never_back = never_back
        self.master: str | None = members[0]
        self.wiped: list[str] = []
        self.votes_again = False
        self.events: Sequence[EventRecord] = (STARTED,)
        self.unread_events: Sequence[str] = ()
        self.refusals_are_told = True
        self.restarted: list[str] = []
        self.full: set[str] = set()
        self.groups: Sequence[int] = (1,)
        self.learned: dict[str, int] = {}
        """Of members that learn nothing: what they have."""
        self.never_new = False
        """Whether members that replace others do not come to serve."""
        self.killed: list[list[Place]] = []
        self.stopped: list[list[Place]] = []
        self.resumed = 0
        self.is_closed = False

    def watch(self, members: Sequence[str], *, has_controller: bool) -> None:
        self.places = [(member, role) for member in members for role in ROLES]
        if has_controller:
            self.places.append(CONTROLLER)
        # Whoever is new, serves.
        self.lives = {p: self.lives.get(p) or self.new_life() for p in self.places}

    def new_life(self) -> Life:
        pid = next(self.pids)
        return Life(pid, 10 * pid, "node")

    def harmed(self) -> set[str]:
        now_ns = self.clock_ns()
        down = {place for place, back_ns in self.back_ns.items() if back_ns > now_ns}
        paused = {place for place, end_ns in self.paused.items() if end_ns > now_ns}
        return {member for member, _ in down | paused}

    def look(self, without: Iterable[Place]) -> Sight:
        now_ns = self.clock_ns()
        skipped = set(without)
        lives = {
            place: life
            for place, life in self.lives.items()
            if place not in skipped
            and self.back_ns.get(place, 0) <= now_ns
            and self.paused.get(place, 0) <= now_ns
        }
        if self.never_new:
            lives = {p: life for p, life in lives.items() if not p[0].startswith("r")}
        if self.never_back:
            lives.pop(("m1", "learner"), None)
        masters = dict.fromkeys(self.groups, self.master) if self.master is not None else {}
        refusals: dict[Place, str] = {}
        if not self.votes_again:
            lives = {place: life for place, life in lives.items() if place[0] not in self.wiped}
            if self.refusals_are_told:
                refusals = {(name, role): "no folder" for name in self.wiped for role in ROLES}
        full = frozenset((name, "acceptor") for name in self.full)
        learned = {
            (name, group): self.learned.get(name, now_ns)
            for name in {place[0] for place in self.places} - {""}
            for group in self.groups
        }
        return Sight(lives, masters, {}, refusals, full, learned)

    def kill(self, lives: Sequence[Life]) -> int:
        hit = self.places_of(lives)
        self.killed.append(hit)
        for place in hit:
            self.lives[place] = self.new_life()
            self.paused.pop(place, None)
            self.back_ns[place] = self.clock_ns() + int(self.back_after_s * 1e9)
        return len(hit)

    def pause(self, lives: Sequence[Life], pause_s: float) -> int:
        hit = self.places_of(lives)
        self.stopped.append(hit)
        self.paused |= dict.fromkeys(hit, self.clock_ns() + int(pause_s * 1e9))
        return len(hit)

    def resume(self) -> None:
        self.resumed += 1
        self.paused.clear()

    def restart(self, member: str) -> None:
        self.restarted.append(member)
        self.kill([life for place, life in self.lives.items() if place[0] == member])
        self.killed.pop()

    def wipe(self, member: str, lives: Sequence[Life]) -> int:
        self.wiped.append(member)
        count = self.kill(lives)
        self.killed.pop()
        return count

    def places_of(self, lives: Sequence[Life]) -> list[Place]:
        return [place for place, life in self.lives.items() if life in lives]

    def read_logs(self, group: int, first: int, members: Sequence[str]) -> dict[str, MemberLog]:
        logs = self.logs(group)
        return {name: logs[name] for name in members}

    def read_events(self, members: Sequence[str]) -> tuple[list[EventRecord], list[str]]:
        now_ms = time.time_ns() // 1_000_000
        records = [
            structs.replace(each, at_ms=now_ms) if each.at_ms == IN_THE_RUN_MS else each
            for each in self.events
        ]
        return records, list(self.unread_events)

    def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeEnvironment:
    """Where the job gets its cluster from."""

    flaws: Flaws = field(default_factory=Flaws)
    starts: list[tuple[str | None, bool]] = field(default_factory=list)
    was_running: bool = False
    cluster: FakeChaosCluster | None = None
    processes: FakeMembers | None = None
    own_nodes: FakeNodes | None = None
    configuration: ClusterConfiguration | None = None

    def start(
        self, configuration: ClusterConfiguration, *, address: str | None, keep: bool
    ) -> FakeChaosCluster:
        self.starts.append((address, keep))
        self.configuration = configuration
        self.cluster = FakeChaosCluster(configuration, self.flaws)
        self.cluster.was_running = self.was_running
        return self.cluster

    def members(self, cluster: FakeChaosCluster, groups: Sequence[int]) -> FakeMembers:
        self.processes = FakeMembers(
            cluster.members, logs=self._logs, never_back=self.flaws.never_back
        )
        self.processes.groups = groups
        self.processes.votes_again = self.flaws.votes_again
        self.processes.events = self.flaws.events
        self.processes.unread_events = self.flaws.unread_events
        if self.own_nodes is not None:
            self.own_nodes.processes = self.processes
        return self.processes

    @contextlib.contextmanager
    def hosts(
        self, configuration: ClusterConfiguration, kinds: Collection[FaultKind]
    ) -> Iterator[FakeNodes]:
        self.own_nodes = FakeNodes()
        self.configuration = configuration
        yield self.own_nodes
        self.own_nodes.did.append("close")

    @contextlib.contextmanager
    def nodes(
        self, configuration: ClusterConfiguration, count: int, kinds: Collection[FaultKind]
    ) -> Iterator[FakeNodes]:
        self.own_nodes = FakeNodes(has_links=False)
        self.own_nodes.count = count
        yield self.own_nodes
        self.own_nodes.did.append("close")

    def _logs(self, group: int) -> dict[str, MemberLog]:
        assert self.cluster is not None
        rows = self.cluster.groups[group].rows
        logs = {name: MemberLog(log_table(rows)) for name in self.cluster.members}
        if self.flaws.other_row:
            *head, last = rows
            logs["m3"] = MemberLog(log_table([*head, (*last[:6], b"other", last[7])]))
        if self.flaws.short_log:
            logs["m3"] = MemberLog(log_table(rows[:-20]))
        if self.flaws.damaged_log:
            logs["m1"] = MemberLog(logs["m1"].rows, "DamageError: wrong checksum")
        return logs
