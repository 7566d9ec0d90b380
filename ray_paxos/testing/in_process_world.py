"""The simulated world of an in-process cluster: members, time, and a witness of what is applied.

Roles, driver, wire format, journal, segments and checkpoints are the real ones, as in the random
walk (`walk`). What differs:

1. The network loses and repeats nothing, and no clock drifts: faults come from the test alone.
2. The protocol is not judged. What is under test are the user's machines: `Witness` notes what each
   member applies, with what results, and who has stopped.
3. Time passes only while somebody waits (`InProcessWorld.until`), and costs what happens in it: a
   simulated second without commands some 3 ms.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.events import ApplyingStopped, Event, InstanceApplied, InvariantBroken
from ray_paxos.core.genesis import Genesis, GroupSpec, MachineSpec, MemberSpec, Voter
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.parts import Parts
from ray_paxos.core.records import Record
from ray_paxos.core.role import Role
from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.core.wire import decode_envelopes
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.testing.calls import split_address
from ray_paxos.testing.checker import Checker
from ray_paxos.testing.clock import MachineClock, Scheduler
from ray_paxos.testing.cluster import SimulatedCluster
from ray_paxos.testing.disk import SimulatedDisk
from ray_paxos.testing.network import SimulatedNetwork
from ray_paxos.testing.options import MICROSECOND_NS, DiskOptions, NetworkOptions, Options
from ray_paxos.testing.trace import Trace, name_address, name_member
from ray_paxos.testing.violation import Violation
from ray_paxos.testing.world import World

GROUP = 1
MEMBERS_MAX = 26
"""They are named by letters."""

OPTIONS = Options(
    members=3,
    groups=1,
    journal_bytes=4_000_000,
    network=NetworkOptions(delay_spread_ns=200 * MICROSECOND_NS),
    disk=DiskOptions(sync_spread_ns=200 * MICROSECOND_NS),
    checkpointer=CheckpointerSettings(scrub_bytes_per_s=0),
)
"""The times and limits of a real cluster, but for a disk and a network that are steady."""

NOT_OPENED = " cannot open its folder: "
"""How `SimulatedProcess` says so."""

Caller = Callable[[int, Envelope], None]
"""Takes in the answer to a call: its number, and what came back."""


class Witness(Checker):
    """Notes what is applied; judges nothing.

    Attributes:
        log: What instance 1, 2, ... chose.
        result_chains: After each of them, at the first member that applied it.
        differing: (member, instance) of the first results that were others than those.
        stopped: Why, by member that applies nothing more in its present life.
    """

    def __init__(
        self, genesis: Genesis, members: int, scheduler: Scheduler, registry: MachineRegistry
    ) -> None:
        """Start before anything was applied."""
        super().__init__(genesis, members, scheduler, 0, registry)
        self.log: list[bytes] = []
        self.result_chains: list[bytes] = []
        self.differing: tuple[int, int] | None = None
        self.stopped: dict[int, str] = {}

    def event(self, process: Address, event: Event) -> None:
        """A role reports what happened."""
        match event:
            case InstanceApplied(instance_id=instance_id):
                if instance_id == len(self.log) + 1:
                    self.log.append(event.value)
                    self.result_chains.append(event.result_chain)
                is_other = self.result_chains[instance_id - 1] != event.result_chain
                if is_other and self.differing is None:
                    self.differing = process.member_id, instance_id
            case ApplyingStopped(why=why):
                self.stopped.setdefault(process.member_id, why)
            case InvariantBroken(what=what):
                raise Violation("invariant", f"{name_address(process)}: {what}")
            case _:
                pass

    def learner_opened(self, member_id: int, group: int, learner: Learner) -> None:
        """A learner begins a life with what it found, and has applied it."""
        self.stopped.pop(member_id, None)
        if learner.stopped:
            self.stopped[member_id] = learner.stopped

    # What the random walk judges, and this does not.

    def opened(self, address: Address, role: Role, clock: MachineClock) -> None:
        """Nothing to note."""

    def group_opened(self, address: Address, group: int, role: Role, clock: MachineClock) -> None:
        """Nothing to note."""

    def ended(self, address: Address) -> None:
        """Nothing to note."""

    def stepped(self, address: Address) -> None:
        """Nothing to note."""

    def acceptor_opened(self, member_id: int, state: AcceptorState) -> None:
        """Nothing to note."""

    def acceptor_stepped(self, member_id: int, state: AcceptorState) -> None:
        """Nothing to note."""

    def watch_disk(self, member_id: int, disk: SimulatedDisk) -> None:
        """Nothing to note."""

    def learner_opening(self, member_id: int) -> None:
        """Nothing to note."""

    def parts_found(self, member_id: int, parts: Parts) -> None:
        """Nothing to note."""

    def writing(self, process: Address, records: Sequence[Record]) -> None:
        """Nothing to note."""

    def wrote(self, process: Address, records: Sequence[Record]) -> None:
        """Nothing to note."""

    def synced(self, process: Address) -> None:
        """Nothing to note."""

    def has_unsynced(self, process: Address) -> bool:
        """Of no interest."""
        return False

    def receiving(self, to: Address, envelope: Envelope) -> None:
        """Nothing to note."""

    def sending(self, sender: Address, to: Address, life: int, envelope: Envelope) -> None:
        """Nothing to note."""


class OpeningTrace(Trace):
    """A trace that remembers why a process could not open its folder.

    Attributes:
        not_opened: The latest reason; empty for none.
    """

    not_opened = ""

    def say(self, now_ns: int, what: str) -> None:
        """Give a reader one line."""
        if NOT_OPENED in what:
            self.not_opened = what
        super().say(now_ns, what)


class InProcessMembers(SimulatedCluster):
    """The members, and callers that get the answers to their calls.

    Attributes:
        callers: Who takes answers in, by client id.
    """

    def __init__(self, world: World, network: SimulatedNetwork) -> None:
        """Make all members; nothing runs yet."""
        super().__init__(world, network)
        self.callers: dict[int, Caller] = {}

    def deliver(self, sender: Address, to: Address, data: bytes) -> None:
        """An envelope arrives."""
        if to.role is not RoleName.CLIENT:
            super().deliver(sender, to, data)
            return
        client_id, call = split_address(to)
        (envelope,) = decode_envelopes(data)
        self.callers[client_id](call, envelope)


class InProcessWorld:
    """One in-process cluster's members and time.

    Invariants: time passes in `until` only, which is never entered twice.

    Attributes:
        world: Shared by all that is simulated.
        network: Between members.
        members: The members.
        witness: Of what they apply.
        registry: Which machines can be mounted.
        trace: Of what happened.
        queries: What was asked, (machine, request), each once.
    """

    QUERIES_MAX = 1_000

    def __init__(
        self,
        machines: tuple[MachineSpec, ...],
        registry: MachineRegistry,
        *,
        members: int,
        seed: int,
        line: Callable[[str], None] | None,
    ) -> None:
        """Make members that have not begun.

        Args:
            machines: What their group mounts.
            registry: The classes.
            members: How many.
            seed: Of all that is drawn.
            line: Takes readable lines of what happens; None for none.
        """
        everybody = tuple(Voter(member, member) for member in range(1, members + 1))
        specs = tuple(MemberSpec(name_member(each.member_id), each.member_id) for each in everybody)
        groups = (GroupSpec(GROUP, everybody, machines),)
        genesis = Genesis(1, "in-process", "0" * 32, specs, groups)
        scheduler = Scheduler()
        # A string, since Random(-1) is Random(1).
        draw = random.Random(f"in-process/{seed}")
        self.registry = registry
        self.witness = Witness(genesis, members, scheduler, registry)
        self.trace = OpeningTrace(line)
        self.world = World(OPTIONS, draw, genesis, self.trace, self.witness, scheduler, registry)
        self.network = SimulatedNetwork(scheduler, draw, OPTIONS.network)
        self.members = InProcessMembers(self.world, self.network)
        self.queries: dict[tuple[str, bytes], None] = {}
        self._thread = threading.get_ident()
        self._is_running = False
        self._next_client = 1

    @property
    def now_ns(self) -> int:
        """Simulated time since the beginning."""
        return self.world.now_ns

    @property
    def member_ids(self) -> tuple[int, ...]:
        """All members, ascending."""
        return self.world.member_ids

    def new_client_id(self) -> int:
        """An address that nobody had."""
        self._next_client += 1
        return self._next_client

    def envelope(self, sender: Address, message: Message) -> Envelope:
        """A message of a client."""
        return Envelope(self.world.genesis.hash(), GROUP, sender, 0, 0, 0, message)

    def note_query(self, machine: str, requests: Iterable[bytes]) -> None:
        """Somebody asks this of a machine; the oldest are forgotten."""
        for request in requests:
            self.queries[machine, request] = None
        while len(self.queries) > self.QUERIES_MAX:
            del self.queries[next(iter(self.queries))]

    # Time.

    def check_may_wait(self) -> None:
        """Refuse to wait where time cannot pass.

        Raises:
            ConfigurationError: In a callback, a machine, or another thread.
        """
        if self._is_running:
            raise ConfigurationError(
                "nothing may wait for the in-process cluster in a callback of a future or in a "
                "machine: it goes on only when these have returned"
            )
        if threading.get_ident() != self._thread:
            raise ConfigurationError(
                "an in-process cluster belongs to the thread that made it: call it there, or make "
                "one in this thread"
            )

    def until(self, holds: Callable[[], bool], end_ns: int) -> bool:
        """Let time pass until something holds, or a time has come; whether it holds.

        Raises:
            ConfigurationError: As `check_may_wait`.
        """
        if holds():
            return True
        self.check_may_wait()
        scheduler = self.world.scheduler
        self._is_running = True
        try:
            while scheduler.next_ns is not None and scheduler.next_ns <= end_ns:
                scheduler.step()
                if holds():
                    return True
            scheduler.now_ns = max(scheduler.now_ns, end_ns)
        finally:
            self._is_running = False
        return holds()
