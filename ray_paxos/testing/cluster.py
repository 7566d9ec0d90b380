"""A simulated cluster: members with their disks, the four processes of each, and clients."""

from __future__ import annotations

from collections.abc import Callable

from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.wire import decode_envelopes
from ray_paxos.storage.folder import activate_member, stage_member
from ray_paxos.testing.calling_client import CallingClient
from ray_paxos.testing.calls import split_address
from ray_paxos.testing.client import SimulatedClient
from ray_paxos.testing.clock import MachineClock
from ray_paxos.testing.coverage import UNSYNCED_LOSS
from ray_paxos.testing.disk import SimulatedDisk
from ray_paxos.testing.network import Transport
from ray_paxos.testing.process import SimulatedProcess
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.world import World

MEMBER_ROLES = (
    RoleName.PROPOSER,
    RoleName.ACCEPTOR,
    RoleName.LEARNER,
    RoleName.CHECKPOINTER,
)


class SimulatedMember:
    """One machine: a disk, a clock that counts from its last boot, and four processes."""

    def __init__(self, world: World, member_id: int, transport: Transport) -> None:
        """Make the member's folders, as bootstrap does; nothing runs yet."""
        self.member_id = member_id
        self.disk = SimulatedDisk()
        self._world = world
        world.checker.watch_disk(member_id, self.disk)
        self.boot()
        stage_member(self.disk, world.genesis, member_id, joined_as=world.joined_as(member_id))
        activate_member(self.disk)
        self.processes = {
            role: SimulatedProcess(world, Address(member_id, role), self.disk.process(), transport)
            for role in MEMBER_ROLES
        }

    def start(self) -> None:
        """Start every process that is down."""
        for process in self.processes.values():
            if not process.is_up:
                process.start(self.clock)

    def kill(self) -> None:
        """Kill all processes; what they wrote stays in the page cache."""
        for process in self.processes.values():
            process.kill()

    def lose_power(self) -> None:
        """All processes die, and of what was not synced only some is left."""
        for process in self.processes.values():
            process.kill(situation=UNSYNCED_LOSS)
        self._world.say(f"{name_member(self.member_id)} loses power")
        self.disk.power_loss(self._world.random)
        self.boot()

    def boot(self) -> None:
        """Switch the machine on: its clock counts from now, at a rate of its own."""
        drift = self._world.options.drift_ppm
        rate = self._world.random.randint(-drift, drift)
        self.clock = MachineClock(self._world.now_ns, rate)


class SimulatedCluster:
    """All members and clients of one run.

    Attributes:
        members: By id.
        clients: By id.
        receivers: Takes answers in, by client id.
        callers: Takes the answers of calls in, with the call's number, by client id.
    """

    def __init__(self, world: World, transport: Transport) -> None:
        """Make all members; nothing runs yet.

        Args:
            world: What the run shares.
            transport: Its network.
        """
        self.world = world
        self.transport = transport
        transport.connect(self.deliver)
        self.members = {m: SimulatedMember(world, m, self.transport) for m in world.member_ids}
        self.clients: dict[int, SimulatedClient | CallingClient] = {}
        self.receivers: dict[int, Callable[[Envelope], None]] = {}
        self.callers: dict[int, Callable[[int, Envelope], None]] = {}
        self._calls: set[Address] = set()

    @property
    def processes(self) -> list[SimulatedProcess]:
        """All of them, member by member."""
        return [p for member in self.members.values() for p in member.processes.values()]

    def process(self, member_id: int, role: RoleName) -> SimulatedProcess:
        """One of them."""
        return self.members[member_id].processes[role]

    def deliver(self, sender: Address, to: Address, data: bytes) -> None:
        """An envelope arrives."""
        if to.role is RoleName.CLIENT:
            self._deliver_to_client(to, data)
            return
        if sender.role is RoleName.CLIENT and split_address(sender)[1]:
            # A call runs at most once, whatever the network repeats.
            if sender in self._calls:
                return
            self._calls.add(sender)
        self.process(to.member_id, to.role).receive(data)

    def _deliver_to_client(self, to: Address, data: bytes) -> None:
        client_id, call = split_address(to)
        (envelope,) = decode_envelopes(data)
        if call:
            self.callers[client_id](call, envelope)
            return
        receive = self.receivers.get(client_id)
        if receive is not None:
            receive(envelope)

    def add_client(self, client_id: int, group: int) -> SimulatedClient | CallingClient:
        """A client of one kind or the other, which starts at once."""
        world = self.world
        is_calling = world.random.random() < world.options.clients.calling_share
        make = CallingClient if is_calling else SimulatedClient
        client = make(
            client_id=client_id,
            group=group,
            members=world.member_ids,
            genesis=world.genesis.hash(),
            has_lease=world.options.proposer.lease_ns > 0,
            options=world.options.clients,
            scheduler=world.scheduler,
            transport=self.transport,
            random=world.random,
            judge=world.checker,
        )
        self.clients[client_id] = client
        self.receivers[client_id] = client.receive
        if isinstance(client, CallingClient):
            self.callers[client_id] = client.receive_answer
        client.start()
        return client

    def proposers(self, member_id: int) -> dict[int, Proposer]:
        """A member's proposers by group; none while that process does not serve."""
        process = self.process(member_id, RoleName.PROPOSER)
        if not process.is_serving:
            return {}
        router = process.role
        assert isinstance(router, GroupRouter)
        return {g: role for g, role in router.roles.items() if isinstance(role, Proposer)}

    def learner(self, member_id: int, group: int) -> Learner | None:
        """A group's learner at a member; None while that process does not serve."""
        process = self.process(member_id, RoleName.LEARNER)
        if not process.is_serving:
            return None
        router = process.role
        assert isinstance(router, GroupRouter)
        learner = router.roles.get(group)
        assert learner is None or isinstance(learner, Learner)
        return learner
