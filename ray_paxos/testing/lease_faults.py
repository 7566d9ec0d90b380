"""Faults that are about time and mastership: handovers, long pauses, clocks that jump."""

from __future__ import annotations

from ray_paxos.core.client_messages import TransferMaster
from ray_paxos.core.lease import MILLION
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.testing.cluster import SimulatedCluster, SimulatedMember
from ray_paxos.testing.network import Transport
from ray_paxos.testing.trace import name_member

OPERATOR = Address(900, RoleName.CLIENT)
JUMP_MAX_NS = 3_000 * MILLISECOND_NS


class LeaseFaults:
    """Plays them on a cluster."""

    def __init__(self, cluster: SimulatedCluster, transport: Transport) -> None:
        """Play none yet."""
        self._cluster = cluster
        self._transport = transport
        self._world = cluster.world
        self._draw = cluster.world.random
        self._requests = 0
        self._jumped_ns: dict[int, int] = {}

    def transfer_master(self) -> None:
        """Somebody wants another member to lead, or just not this one: any, dead or alive."""
        masters = [
            (member.member_id, group)
            for member in self._cluster.members.values()
            for group, proposer in self._cluster.proposers(member.member_id).items()
            if proposer.is_serving
        ]
        if not masters:
            return
        member_id, group = masters[self._draw.randrange(len(masters))]
        others = [m for m in self._cluster.members if m != member_id]
        target = ([0, *others])[self._draw.randrange(1 + len(others))]
        self._requests += 1
        whom = name_member(target) if target else "anybody else"
        self._world.say(f"{name_member(member_id)} is to hand group {group} over to {whom}")
        genesis = self._world.genesis.hash()
        message = TransferMaster(self._requests, target)
        envelope = Envelope(genesis, group, OPERATOR, 0, 0, 0, message)
        self._transport.send(OPERATOR, Address(member_id, RoleName.PROPOSER), envelope)

    def pause_ns(self) -> int:
        """A length that outlives a lease, and mostly an election, too."""
        proposer = self._world.options.proposer
        more_ns = int((proposer.lease_ns + 2 * proposer.election_timeout_ns) * self._draw.random())
        return proposer.lease_ns + more_ns

    def jump_clock(self) -> None:
        """A machine's clock goes forward at once, as far as leases can bear (`MachineClock`).

        As far as it likes where its acceptor is bound to nobody else: so at the machine of a
        holder. Else by what the margin for drift leaves to this machine, once in a lease.
        """
        members = list(self._cluster.members.values())
        member = members[self._draw.randrange(len(members))]
        by_ns = int(JUMP_MAX_NS * self._draw.random())
        leases = self._world.checker.leases.values()
        if any(lease.is_bound(member.member_id) for lease in leases):
            by_ns = min(by_ns, self._left_ns(member))
        self._world.say(f"{name_member(member.member_id)}'s clock jumps by {by_ns / 1e6:.3f} ms")
        member.clock.jump(by_ns)
        self._jumped_ns[member.member_id] = self._world.now_ns

    def _left_ns(self, member: SimulatedMember) -> int:
        """What a clock of this rate leaves of the margin for drift."""
        lease_ns, drift_ppm = self._world.options.proposer.lease_ns, self._world.options.drift_ppm
        jumped_ns = self._jumped_ns.get(member.member_id)
        if jumped_ns is not None and self._world.now_ns - jumped_ns < 2 * lease_ns:
            return 0
        left_ns = lease_ns * (drift_ppm - member.clock.drift_ppm) // (MILLION - drift_ppm)
        return max(left_ns - MILLISECOND_NS // 1_000, 0)
