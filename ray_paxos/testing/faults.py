"""Injects faults into a simulated cluster, and undoes those that end.

Every fault is one method; `options.FAULT_KINDS` names them. Whatever is down is restarted by a
supervisor, as the actors' restarts and the controller do in production: a killed process after a
while, a process that stopped itself after a failed fsync, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.messages import Address, Envelope, Prepare, RoleName
from ray_paxos.core.proposer import Phase, Proposer
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.cluster import SimulatedCluster, SimulatedMember
from ray_paxos.testing.disk_faults import DiskFaults
from ray_paxos.testing.lease_faults import LeaseFaults
from ray_paxos.testing.membership_faults import MembershipFaults
from ray_paxos.testing.network import CLIENT_NODE, SimulatedNetwork
from ray_paxos.testing.options import NetworkOptions
from ray_paxos.testing.process import SimulatedProcess
from ray_paxos.testing.trace import name_member

SUPERVISION_NS = 20 * MILLISECOND_NS
CRASH_OPERATIONS_MAX = 12
ABSENT_GROUP = 99
LAST_MOMENTS_NS = 400 * MILLISECOND_NS
WRITING_NS = 100 * MILLISECOND_NS

Link = tuple[int, int]


def _leads(process: SimulatedProcess) -> bool:
    router = process.role
    assert isinstance(router, GroupRouter)
    proposers = [role for role in router.roles.values() if isinstance(role, Proposer)]
    return any(proposer.phase is not Phase.FOLLOWING for proposer in proposers)


class FaultInjector:
    """Plays faults on a cluster until told to stop.

    Attributes:
        is_active: Whether it injects new ones.
    """

    def __init__(self, cluster: SimulatedCluster, network: SimulatedNetwork) -> None:
        """Inject nothing yet."""
        self.is_active = False
        self._cluster = cluster
        self._network = network
        self._world = cluster.world
        self._draw = cluster.world.random
        self._usual = network.options
        self._leases = LeaseFaults(cluster, network)
        self._disks = DiskFaults(cluster, self._later)
        self._membership = MembershipFaults(
            cluster, network, self._kill_for_long, self._while_active
        )
        self._down_until: dict[Address, int] = {}
        self._kinds: dict[str, Callable[[], None]] = {
            "cut in two": self._cut_in_two,
            "isolated member": self._isolate,
            "one-way cut": self._cut_one_way,
            "partial cut": self._cut_partially,
            "killed role": self._kill_role,
            "killed in a write": self._kill_in_a_write,
            "killed master": self._kill_master,
            "killed member": self._kill_member,
            "clean restart": self._restart_cleanly,
            "power loss of a member": self._lose_power,
            "power loss of all": self._lose_all_power,
            "paused process": self._pause_process,
            "paused member": self._pause_member,
            "transferred master": self._leases.transfer_master,
            "clock jump": self._leases.jump_clock,
            "failing fsync": self._disks.fail_fsync,
            "slow disk": self._disks.slow_disk,
            "full disk": self._disks.fill_disk,
            "damaged file": self._damage_file,
            "bad network": self._worsen_network,
            "stray message": self._send_astray,
            "changed members": self._membership.change,
        }

    def start(self) -> None:
        """Begin to inject, and to restart what is down."""
        self.is_active = True
        self._supervise()
        self._next()

    def heal(self) -> None:
        """Inject no more, undo everything, restart everything at once."""
        self.is_active = False
        self._world.say("all is healed")
        self._network.calm(NetworkOptions())
        self._down_until.clear()
        for member in self._cluster.members.values():
            member.disk.set_capacity(None)
        for process in self._cluster.processes:
            process.faults.sync_factor = 1
            process.faults.crash_in = None
            process.resume()

    # Going on.

    def _next(self) -> None:
        if not self.is_active:
            return
        interval_ns = self._world.options.fault_interval_ns
        self._world.scheduler.after(
            interval_ns // 4 + self._draw.randrange(2 * interval_ns), self._inject
        )

    def _inject(self) -> None:
        if not self.is_active:
            return
        kinds = self._world.options.fault_kinds
        if "killed master" in kinds:
            # What a new master finds is where most can go wrong.
            kinds = (*kinds, "killed master", "killed master")
        if "changed members" in kinds:
            # Each change is worth little before the next one.
            kinds = (*kinds, *("changed members" for _ in kinds))
        if "transferred master" in kinds and self._world.options.proposer.lease_ns:
            kinds = (*kinds, "transferred master", "transferred master")
        kind = kinds[self._draw.randrange(len(kinds))]
        self._world.checker.coverage.faults[kind] += 1
        self._world.say(f"fault: {kind}")
        self._kinds[kind]()
        self._next()

    def _supervise(self) -> None:
        """Restart what is down for long enough."""
        now_ns = self._world.now_ns
        for member in self._cluster.members.values():
            for process in member.processes.values():
                if process.is_stopped:
                    process.kill()
                    self._keep_down((process,), self._some_ns())
                if not process.is_up and now_ns >= self._down_until.get(process.address, 0):
                    process.start(member.clock)
        self._world.scheduler.after(SUPERVISION_NS, self._supervise)

    def _keep_down(self, processes: Iterable[SimulatedProcess], for_ns: int) -> None:
        for process in processes:
            self._down_until[process.address] = self._world.now_ns + for_ns

    def _some_ns(self) -> int:
        """How long this fault lasts; short ones are as likely as long ones."""
        length_ns = self._world.options.fault_length_ns
        return int(length_ns * self._draw.random() ** 2) + MILLISECOND_NS

    def _later(self, action: Callable[[], None]) -> None:
        self._world.scheduler.after(self._some_ns(), action)

    def _while_active(self, delay_ns: int, action: Callable[[], None]) -> None:
        def act() -> None:
            if self.is_active:
                action()

        self._world.scheduler.after(delay_ns, act)

    def _some_member(self) -> SimulatedMember:
        members = list(self._cluster.members.values())
        return members[self._draw.randrange(len(members))]

    def _some_process(self) -> SimulatedProcess:
        """Any process, but half the time one that has unsynced records, if there is any."""
        processes = self._cluster.processes
        if self._draw.random() < 0.7:
            processes = [p for p in processes if self._has_unsynced(p)] or processes
        return processes[self._draw.randrange(len(processes))]

    def _when_writing(self, strike: Callable[[], None], end_ns: int | None = None) -> None:
        """Strike as soon as some process has unsynced records, or after a while."""
        if not self.is_active:
            return
        if end_ns is None:
            end_ns = self._world.now_ns + WRITING_NS
        if self._world.now_ns < end_ns and not any(
            map(self._has_unsynced, self._cluster.processes)
        ):
            again = partial(self._when_writing, strike, end_ns)
            self._world.scheduler.after(MILLISECOND_NS // 2, again)
        else:
            strike()

    def _some_writing_member(self) -> SimulatedMember:
        return self._cluster.members[self._some_process().address.member_id]

    def _has_unsynced(self, process: SimulatedProcess) -> bool:
        return self._world.checker.has_unsynced(process.address)

    # The network.

    def _nodes(self) -> list[int]:
        return [*self._cluster.members, CLIENT_NODE]

    def _cut(self, links: list[Link]) -> None:
        pairs = ", ".join(f"{self._node(a)}>{self._node(b)}" for a, b in links)
        self._world.say(f"cut: {pairs}")
        self._network.cut(links)
        self._later(partial(self._mend, links))

    def _mend(self, links: list[Link]) -> None:
        if self.is_active:
            self._world.say("a cut is mended")
            self._network.mend(links)

    def _node(self, node: int) -> str:
        return "clients" if node == CLIENT_NODE else name_member(node)

    def _cut_in_two(self) -> None:
        nodes = self._nodes()
        self._draw.shuffle(nodes)
        left, right = nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :]
        self._cut([link for a in left for b in right for link in ((a, b), (b, a))])

    def _isolate(self) -> None:
        alone = self._some_member().member_id
        others = [node for node in self._nodes() if node not in (alone, CLIENT_NODE)]
        self._cut([link for other in others for link in ((alone, other), (other, alone))])

    def _cut_one_way(self) -> None:
        member = self._some_member().member_id
        others = [node for node in self._nodes() if node != member]
        if self._draw.random() < 0.5:
            self._cut([(member, other) for other in others])
        else:
            self._cut([(other, member) for other in others])

    def _cut_partially(self) -> None:
        nodes = self._nodes()
        links = [(a, b) for a in nodes for b in nodes if a != b]
        self._cut([link for link in links if self._draw.random() < 0.35])

    def _worsen_network(self) -> None:
        usual = self._usual
        self._network.options = dataclasses.replace(
            usual,
            loss=0.3,
            duplication=0.2,
            straggling=0.3,
            straggle_max_ns=max(usual.straggle_max_ns, 100 * MILLISECOND_NS),
        )
        self._later(self._restore_network)

    def _restore_network(self) -> None:
        if self.is_active:
            self._network.options = self._usual

    def _send_astray(self) -> None:
        """A prepare of a group that no member has: it must make nothing (design 9)."""
        sender = Address(self._some_member().member_id, RoleName.PROPOSER)
        to = Address(self._some_member().member_id, RoleName.ACCEPTOR)
        genesis = self._world.genesis.hash()
        prepare = Prepare(Ballot(1, sender.member_id, 1), 1)
        envelope = Envelope(genesis, ABSENT_GROUP, sender, sender.member_id, 1, 0, prepare)
        self._network.send(sender, to, envelope)

    # Processes.

    def _kill_role(self) -> None:
        process = self._some_process()
        process.kill()
        self._keep_down((process,), self._some_ns())

    def _kill_master(self) -> None:
        leading = self._leading()
        master = leading[self._draw.randrange(len(leading))]
        member = self._cluster.members[master.address.member_id]
        if self._draw.random() < 0.3:
            self._kill_all_of([master])
            return
        # In its last moments half of what is said gets lost, or all accepts of one instance: votes
        # are left at few acceptors, and, where its own acceptor dies with it, over holes.
        self._network.hides_instance = self._draw.random() < 0.7
        if not self._network.hides_instance:
            self._network.options = dataclasses.replace(self._usual, loss=0.5)
        dying = [master] if self._draw.random() < 0.2 else list(member.processes.values())
        end_ns = self._world.now_ns + self._draw.randrange(LAST_MOMENTS_NS)
        self._end_last_moments(dying, end_ns)

    def _end_last_moments(self, dying: list[SimulatedProcess], end_ns: int) -> None:
        now_ns = self._world.now_ns
        has_hole = self._network.sent_over_hole > self._world.options.members
        if not self.is_active:
            return
        if now_ns < end_ns and not has_hole:
            wait = partial(self._end_last_moments, dying, end_ns)
            self._world.scheduler.after(2 * MILLISECOND_NS, wait)
            return
        self._kill_all_of(dying)
        self._restore_network()
        self._network.show()

    def _leading(self) -> list[SimulatedProcess]:
        """Proposers that lead a group, or try to; all of them where none does."""
        proposers = [m.processes[RoleName.PROPOSER] for m in self._cluster.members.values()]
        return [p for p in proposers if p.is_serving and _leads(p)] or proposers

    def _kill_all_of(self, processes: list[SimulatedProcess]) -> None:
        """Kill, mostly for long enough that another is elected."""
        for process in processes:
            process.kill()
        election_ns = self._world.options.proposer.election_timeout_ns
        self._keep_down(processes, int(4 * election_ns * self._draw.random()))

    def _kill_for_long(self, member_id: int) -> None:
        if self.is_active:
            self._kill_all_of(list(self._cluster.members[member_id].processes.values()))

    def _kill_in_a_write(self) -> None:
        processes = self._cluster.processes
        process = processes[self._draw.randrange(len(processes))]
        process.faults.crash_in = self._draw.randrange(CRASH_OPERATIONS_MAX)
        self._world.say(f"{process.name} will be killed {process.faults.crash_in} operations on")
        if self._draw.random() < 0.5:
            # In the middle of opening, then.
            crash_in = process.faults.crash_in
            process.kill()
            process.faults.crash_in = crash_in
            self._keep_down((process,), self._some_ns())

    def _kill_member(self) -> None:
        member = self._some_writing_member()
        member.kill()
        self._keep_down(member.processes.values(), self._some_ns())

    def _restart_cleanly(self) -> None:
        process = self._some_process()
        process.stop()
        self._keep_down((process,), self._some_ns())

    def _lose_power(self) -> None:
        self._when_writing(self._lose_power_now)

    def _lose_power_now(self) -> None:
        member = self._some_writing_member()
        member.lose_power()
        self._keep_down(member.processes.values(), self._some_ns())

    def _lose_all_power(self) -> None:
        self._when_writing(self._lose_all_power_now)

    def _lose_all_power_now(self) -> None:
        for member in self._cluster.members.values():
            member.lose_power()
            self._keep_down(member.processes.values(), self._some_ns())

    def _pause_process(self) -> None:
        processes = self._cluster.processes
        if self._draw.random() < 0.5:
            processes = self._leading()
        self._pause([processes[self._draw.randrange(len(processes))]])

    def _pause_member(self) -> None:
        member = self._some_member()
        if self._draw.random() < 0.5:
            leading = self._leading()
            process = leading[self._draw.randrange(len(leading))]
            member = self._cluster.members[process.address.member_id]
        self._pause(list(member.processes.values()))

    def _pause(self, processes: list[SimulatedProcess]) -> None:
        for process in processes:
            process.suspend()
        names = ", ".join(process.name for process in processes)
        self._world.say(f"paused: {names}")
        length_ns = self._some_ns() if self._draw.random() < 0.5 else self._leases.pause_ns()
        self._world.scheduler.after(length_ns, partial(self._resume, processes))

    def _resume(self, processes: list[SimulatedProcess]) -> None:
        for process in processes:
            process.resume()

    # Disks.

    def _damage_file(self) -> None:
        process = self._disks.damage_file()
        if process is not None:
            process.kill()
            self._keep_down((process,), self._some_ns())
