"""One simulated process: one role of one member, with the shell that production's actors have.

It opens its folder with the real opening code, runs the real driver, and does what the driver
says, in order. A write is handed to the store at once (it is then in the page cache); the sync that
makes it durable takes its time, and only then the driver is told. A process can be killed at any
moment, also in the middle of a write; it can be suspended, while its clock runs on and messages
queue up; and after a failed fsync it stays up, stopped, until somebody restarts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.driver import Action, Driver, Observe, Run, Transmit, Write
from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.learner import Learner
from ray_paxos.core.member_roles import PartsKeeper
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.role import GroupRouter, Role
from ray_paxos.core.settings import MILLISECOND_NS
from ray_paxos.core.tasks import FollowParts, PartsOpened, Task
from ray_paxos.core.wire import decode_envelopes
from ray_paxos.errors import PaxosError
from ray_paxos.storage.opening import OpenedRole
from ray_paxos.storage.stores import INLINE_TASKS
from ray_paxos.testing.calls import CallDesk
from ray_paxos.testing.clock import MachineClock
from ray_paxos.testing.coverage import UNSYNCED_KILL
from ray_paxos.testing.disk import CrashedError, SimulatedDisk
from ray_paxos.testing.network import Transport
from ray_paxos.testing.opening import open_process
from ray_paxos.testing.storage_shell import StorageFaults, StorageShell
from ray_paxos.testing.trace import describe, name_address
from ray_paxos.testing.world import World

OPENING_NS = MILLISECOND_NS
REOPEN_NS = 50 * MILLISECOND_NS


class SimulatedProcess:
    """One role of one member.

    Invariants: `_driver` is set exactly while the process has opened its folder; what was
    scheduled in an earlier life does nothing in this one.

    Attributes:
        address: Which role of which member.
        disk: Its view of the member's disk.
        life: Counts starts.
        is_up: Whether it runs at all (opening, serving or stopped).
        is_suspended: Whether it is stopped in its tracks.
        timers_frozen: Deadlines pass unnoticed, messages do not; for scripted scenarios.
        faults: What is wrong with its disk.
    """

    def __init__(
        self, world: World, address: Address, disk: SimulatedDisk, transport: Transport
    ) -> None:
        """Be down."""
        self.address = address
        self.name = name_address(address)
        self.disk = disk
        self.life = 0
        self.is_up = False
        self.is_suspended = False
        self.timers_frozen = False
        self.faults = StorageFaults()
        self._world = world
        self._transport = transport
        self._driver: Driver | None = None
        self._opened: OpenedRole | None = None
        self._clock = MachineClock(0, 0)
        self._held: list[Callable[[], None]] = []
        self._timer_ns: int | None = None
        self._storage: StorageShell | None = None
        self._desk = CallDesk()
        # Members outside the genesis that it knows how to reach.
        self._met = {address.member_id}

    # Life and death.

    def start(self, clock: MachineClock) -> None:
        """Start the process, which then opens its folder.

        Args:
            clock: Its machine's, which all processes there read.
        """
        assert not self.is_up, "a process is started once"
        self.life += 1
        self.is_up = True
        self.is_suspended = False
        self._clock = clock
        self._world.say(f"{self.name} starts")
        self.later(OPENING_NS, self._try_to_open)

    def kill(self, *, situation: str = UNSYNCED_KILL) -> None:
        """End the process, as `kill -9` does: what it wrote stays in the page cache.

        Args:
            situation: What it is counted as where it leaves unsynced records.
        """
        if not self.is_up:
            return
        self._world.say(f"{self.name} is killed")
        if self._world.checker.has_unsynced(self.address):
            self._world.checker.coverage.seen[situation] += 1
        if self._storage is not None:
            self._storage.end()
            self._storage = None
        self.disk.kill()
        self.disk.crash_at(None)
        self.is_up = False
        self.life += 1
        self._world.checker.ended(self.address)
        self._driver = None
        self._opened = None
        self._held = []
        self._timer_ns = None
        self._desk = CallDesk()
        self._met = {self.address.member_id}
        self.faults.crash_in = None

    def stop(self) -> None:
        """End the process as it wants to: its store is closed first."""
        if self._storage is not None and not self.is_suspended:
            with self._crashing():
                try:
                    self._storage.close()
                except PaxosError as error:
                    self._world.say(f"{self.name} cannot close its folder: {error}")
        self.kill()

    def suspend(self) -> None:
        """Stop it in its tracks (SIGSTOP)."""
        self.is_suspended = self.is_up

    def resume(self) -> None:
        """Let it go on: first with what came meanwhile."""
        if not self.is_suspended:
            return
        self.is_suspended = False
        held, self._held = self._held, []
        for action in held:
            action()

    @property
    def is_serving(self) -> bool:
        """Whether it handles messages."""
        return self._driver is not None and not self._driver.stopped

    @property
    def is_stopped(self) -> bool:
        """Whether it is up and has given up after a storage failure."""
        return self._driver is not None and bool(self._driver.stopped)

    @property
    def role(self) -> object:
        """The role it runs; only while it has opened its folder."""
        assert self._opened is not None, f"{self.name} is not open"
        return self._opened.role

    def _try_to_open(self) -> None:
        now_ns = self._clock.read(self._world.now_ns)
        if self.address.role is RoleName.LEARNER:
            self._world.checker.learner_opening(self.address.member_id)
        with self._crashing():
            try:
                call = partial(
                    open_process, self._world, self.address, self.disk, self._meet, now_ns
                )
                opened = self.faults.at_risk(self.disk, call)
            except PaxosError as error:
                self._world.say(f"{self.name} cannot open its folder: {error}")
                self.disk.kill()
                self.later(REOPEN_NS, self._try_to_open)
                return
            self._opened = opened
            self._driver = opened.driver
            self._storage = StorageShell(
                self._world, self.address, self.disk, opened, self.faults, self
            )
            self._note_opened()
            self._world.checker.opened(self.address, opened.role, self._clock)
            self._world.say(f"{self.name} serves, incarnation {opened.incarnation}")
            self._arm()

    def _at_storage(self) -> StorageShell:
        assert self._storage is not None, f"{self.name} is not open"
        return self._storage

    def _note_opened(self) -> None:
        role, checker = self.role, self._world.checker
        if isinstance(role, Acceptor):
            checker.acceptor_opened(self.address.member_id, role.state)
        elif isinstance(role, GroupRouter):
            if isinstance(role, PartsKeeper):
                checker.parts_found(self.address.member_id, role.parts)
            for group, inner in role.roles.items():
                if isinstance(inner, Learner):
                    checker.learner_opened(self.address.member_id, group, inner)

    # What happens to it.

    def receive(self, data: bytes) -> None:
        """A message arrives; it is lost where nobody serves."""
        if self.is_suspended:
            self._held.append(partial(self.receive, data))
            return
        driver = self._driver
        if driver is None or driver.stopped:
            return
        (envelope,) = decode_envelopes(data)
        if self.address.role is RoleName.ACCEPTOR:
            with self._crashing():
                self._at_storage().make_room(len(data))
        if self._driver is not driver:
            return
        self._world.checker.receiving(self.address, envelope)
        self._world.checker.coverage.deliveries += 1
        self._world.trace.note(self._world.now_ns, self.name, data)
        self._narrate("gets", envelope.sender, envelope)
        taken = self._desk.take(envelope)
        # Whoever calls introduces itself.
        self._met.add(envelope.sender.member_id)
        self._run(partial(driver.receive, taken, self._now_ns()))

    def _meet(self, members: Iterable[MemberSpec]) -> None:
        self._met |= {each.member_id for each in members}

    def _reaches(self, to: Address) -> bool:
        """Whether it knows the name of a member."""
        member_id = to.member_id
        return (
            to.role is RoleName.CLIENT
            or not self._world.joined_as(member_id)
            or member_id in self._met
        )

    def _run(self, call: Callable[[], list[Action]]) -> None:
        """Call the driver, and do what it says."""
        with self._crashing():
            self._do(call())
            role = self._opened.role if self._opened is not None else None
            if isinstance(role, Acceptor):
                self._world.checker.acceptor_stepped(self.address.member_id, role.state)
            self._world.checker.stepped(self.address)
            self._arm()

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Transmit(to=to) if not self._reaches(to):
                    self._world.say(f"{self.name} does not know {name_address(to)}")
                case Transmit(to=to, envelope=envelope):
                    self._world.checker.sending(self.address, to, self.life, envelope)
                    self._narrate("sends", to, envelope)
                    for receiver in self._desk.receivers(to, envelope):
                        self._transport.send(self.address, receiver, envelope)
                case Observe(event=event):
                    if self._world.trace.line is not None:
                        self._world.trace.say(self._world.now_ns, f"{self.name}: {event}"[:300])
                    self._world.checker.event(self.address, event)
                case Write():
                    self._at_storage().write(action)
                case Run(task=task) if isinstance(task, INLINE_TASKS):
                    self._run_inline(task)
                case Run(task=task):
                    self._at_storage().later(task, partial(self._run_task, task))

    def _narrate(self, verb: str, other: Address, envelope: Envelope) -> None:
        trace = self._world.trace
        if trace.line is not None:
            what = f"{self.name} {verb} {name_address(other)} g{envelope.group} "
            trace.say(self._world.now_ns, what + describe(envelope.message))

    # Its clock.

    def _now_ns(self) -> int:
        return self._clock.read(self._world.now_ns)

    def _arm(self) -> None:
        """See to it that the role's deadline is kept; a timer that rings too early rings again."""
        driver = self._driver
        deadline_ns = driver.deadline_ns if driver is not None else None
        if deadline_ns is None:
            return
        due_ns = self._clock.when(deadline_ns)
        if self._timer_ns is None or due_ns < self._timer_ns:
            self._timer_ns = max(due_ns, self._world.now_ns + 1)
            self.later(self._timer_ns - self._world.now_ns, partial(self._ring, self._timer_ns))

    def _ring(self, timer_ns: int) -> None:
        if self._timer_ns != timer_ns:
            return
        self._timer_ns = None
        driver = self._driver
        if driver is None or self.timers_frozen:
            return
        now_ns = self._now_ns()
        deadline_ns = driver.deadline_ns
        if deadline_ns is not None and deadline_ns <= now_ns:
            self._world.trace.note(self._world.now_ns, self.name)
            self._run(partial(driver.on_deadline, now_ns))
        else:
            self._arm()

    def thaw_timers(self) -> None:
        """Keep deadlines again, after `timers_frozen`."""
        self.timers_frozen = False
        self._timer_ns = None
        self._arm()

    def later(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Do something later, if this life lasts; a suspended process does it when it goes on."""
        self._world.scheduler.after(delay_ns, partial(self._do_later, self.life, action))

    def _do_later(self, life: int, action: Callable[[], None]) -> None:
        if life != self.life:
            return
        if self.is_suspended:
            self._held.append(partial(self._do_later, life, action))
            return
        with self._crashing():
            action()

    # Its storage.

    def durable(self, number: int) -> None:
        """Tell the driver that writes up to this number are durable."""
        driver = self._driver
        assert driver is not None, "a dead process syncs nothing"
        self._world.trace.note(self._world.now_ns, self.name + " synced")
        self._run(partial(driver.on_durable, number, self._now_ns()))

    def storage_failed(self, error: Exception) -> None:
        """Stop, and stay up."""
        assert self._driver is not None, "a dead process fails no more"
        self._world.say(f"{self.name} stops: {error}")
        self._do(self._driver.on_storage_failed(str(error)))
        self._world.checker.ended(self.address)

    def release_syncs(self) -> None:
        """Let syncs end again, with one that began meanwhile."""
        self.faults.syncs_held = False
        if self._storage is not None:
            self._storage.release_syncs()

    def _run_inline(self, task: Task) -> None:
        driver, storage = self._driver, self._at_storage()
        outcome = storage.run(task)
        if driver is not None and outcome is not None:
            self._do(driver.on_outcome(task, outcome, self._now_ns()))

    def _run_task(self, task: Task) -> None:
        driver, storage = self._driver, self._storage
        if driver is None or storage is None:
            return
        if isinstance(task, FollowParts) and self.address.role is RoleName.LEARNER:
            self._world.checker.learner_opening(self.address.member_id)
        outcome = storage.run(task)
        if isinstance(outcome, PartsOpened):
            outcome = replace(outcome, made=self._watched(outcome.made))
        if outcome is not None:
            self._run(partial(driver.on_outcome, task, outcome, self._now_ns()))

    def _watched(
        self, made: Mapping[int, Callable[[int], Role]]
    ) -> dict[int, Callable[[int], Role]]:
        """Roles that are made while the process runs are told to the judge, as all others are."""

        def watched(group: int, make: Callable[[int], Role], now_ns: int) -> Role:
            role = make(now_ns)
            checker = self._world.checker
            if isinstance(role, Learner):
                checker.learner_opened(self.address.member_id, group, role)
            checker.group_opened(self.address, group, role, self._clock)
            return role

        return {group: partial(watched, group, make) for group, make in made.items()}

    def _crashing(self) -> _Crashing:
        return _Crashing(self)


class _Crashing:
    """Turns a crash in the middle of a write into the death of the process."""

    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, CrashedError):
            self._process.kill()
            return True
        return False
