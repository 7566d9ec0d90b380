"""A cluster in this process, without Ray, to test one's own state machines with.

```python
from ray_paxos.testing.in_process import InProcessCluster

cluster = InProcessCluster({"ledger": Ledger})
client = cluster.client()
assert client.propose(b"commit 7").value == b"new"
cluster.crash("A")                                  # its power is gone
assert client.propose(b"commit 7").value == b"old"  # the others go on
cluster.restart()
cluster.advance(30)                                 # leases end
cluster.check()                                     # deterministic? saved and loaded the same?
```

Members have real proposers, acceptors, learners and checkpointers; disk, network and time are
simulated. With pytest, `pytest_plugin` has a fixture that checks after each test.

Rules:

1. All that happens follows from the seed and the calls: the same test does the same each time.
2. Time is simulated. It passes only while a call waits, and costs no real time of its own: a
   timeout of 30 s is over in some milliseconds.
3. What a test is told is what `ray_paxos.Client` tells: results, errors and guarantees.
4. A machine that breaks its promises is found by `check` (`in_process_check` says what it looks
   for), which says how to mend it; what a class alone shows is found when it is mounted.

Measured (CPython 3.11, one core): 15 ms to start three members; 0.5 ms for a command that is
waited for, so 1,000 of them in 0.5 s, or in 2 ms with `propose_many`; a check of these 2,000
commands 50 ms, and 0.2 s more once in a process, to start the other ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from ray_paxos.core.genesis import MachineSpec
from ray_paxos.core.learner import Learner
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry
from ray_paxos.testing.in_process_arguments import length_ns
from ray_paxos.testing.in_process_check import BE_DETERMINISTIC, FaultyMachineError, MachineCheck
from ray_paxos.testing.in_process_checkpoints import CheckpointAsker
from ray_paxos.testing.in_process_client import InProcessClient
from ray_paxos.testing.in_process_world import (
    GROUP,
    MEMBERS_MAX,
    OPTIONS,
    InProcessWorld,
)
from ray_paxos.testing.options import SECOND_NS
from ray_paxos.testing.other_process import shipped
from ray_paxos.testing.process import SimulatedProcess
from ray_paxos.testing.trace import name_member

SETTLE_NS = 30 * SECOND_NS
"""In so much time members start, elect, catch up or make a checkpoint."""

Machines = Mapping[str, type[StateMachine]]


class InProcessCluster:
    """Members of one group, and what a test may do to them. Belongs to one thread.

    Members are named `A`, `B`, `C` ...
    """

    def __init__(
        self,
        machines: Machines,
        *,
        members: int = 3,
        seed: int = 0,
        line: Callable[[str], None] | None = None,
    ) -> None:
        """Start all members, and wait until one of them leads.

        Args:
            machines: Classes by the name under which they are mounted.
            members: How many, 1 to 26.
            seed: Of all that happens by chance, such as who leads first.
            line: Takes readable lines of all that happens, such as `print`; None for none.

        Raises:
            ConfigurationError: A class cannot be mounted, or an argument means nothing.
        """
        if type(members) is not int or not 1 <= members <= MEMBERS_MAX:
            raise ConfigurationError(f"members: found {members!r}; allowed: 1 to {MEMBERS_MAX}")
        classes = _checked_classes(machines)
        registry = MachineRegistry((*BUILT_IN, *classes))
        # Now, before anything is kept in them; where that cannot be, `check` says why.
        self._shipped: bytes | ConfigurationError
        try:
            self._shipped = shipped(classes)
        except ConfigurationError as error:
            self._shipped = error
        specs = tuple(MachineSpec(name, c.kind, c.version) for name, c in machines.items())
        self._world = InProcessWorld(specs, registry, members=members, seed=seed, line=line)
        self._simulated = self._world.members
        self._machine = specs[0].name if len(specs) == 1 else ""
        self._checkpoints = CheckpointAsker(self._world)
        self._is_cut = False
        self._restarts = Counter[int]()
        self.restart()
        self._wait(lambda: self._has_mounted(specs), "start")

    def __repr__(self) -> str:
        members = ", ".join(self._name_of(each) for each in self._world.member_ids)
        return f"<in-process cluster of {members}, at {self.now_s:.3f} s>"

    # Clients and time.

    def client(self, label: str = "") -> InProcessClient:
        """A new client, with a session of its own.

        Args:
            label: What a person calls it.
        """
        return InProcessClient(self._world, label, self._machine)

    @property
    def now_s(self) -> float:
        """Simulated seconds since the beginning."""
        return self._world.now_ns / SECOND_NS

    @property
    def trace_digest(self) -> str:
        """Of all that happened so far; the same for the same seed and calls."""
        return self._world.world.trace.digest()

    def advance(self, seconds: float) -> None:
        """Let simulated time pass: leases end, members elect, catch up and seal.

        Args:
            seconds: How many; each costs some 3 ms.

        Raises:
            ConfigurationError: They mean nothing.
        """
        end_ns = self._world.now_ns + length_ns("seconds", seconds)
        self._world.until(lambda: False, end_ns)

    # Members.

    @property
    def members(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(name_member(member_id) for member_id in self._world.member_ids)

    @property
    def master(self) -> str | None:
        """The member that leads and serves; None while there is none."""
        for member_id in self._world.member_ids:
            proposer = self._simulated.proposers(member_id).get(GROUP)
            if proposer is not None and proposer.is_serving:
                return name_member(member_id)
        return None

    def machine(self, name: str = "", member: str = "") -> StateMachine:
        """A member's own copy of a machine, to be looked at; to change it is a fault.

        Args:
            name: Of the machine; may be left out where there is only one.
            member: Whose; by default the master's, else anybody's.

        Raises:
            ConfigurationError: There is none, or the member is down.
        """
        member = member or self.master or self.members[0]
        learner = self._learner(self._member_id(member))
        if learner is None:
            raise ConfigurationError(f"member {member} is down: restart it first")
        found = {spec.name: machine for spec, machine in learner.host.machines}
        if (name or self._machine) not in found:
            raise ConfigurationError(f"machine: found {name!r}; allowed: {', '.join(found)}")
        return found[name or self._machine]

    def crash(self, member: str, *, after_s: float = 0.0) -> None:
        """A member loses power: of what it has not synced only some is left, or nothing.

        Args:
            member: Which; it stays down until `restart`.
            after_s: So many simulated seconds from now, in the middle of what is then going on; not
                at all where it is restarted before that.

        Raises:
            ConfigurationError: There is no such member, or the time means nothing.
        """
        member_id = self._member_id(member)
        after_ns = length_ns("after_s", after_s)
        if not after_ns:
            self._world.check_may_wait()
            self._simulated.members[member_id].lose_power()
            return
        crash = partial(self._crash_later, member_id, self._restarts[member_id])
        self._world.world.scheduler.after(after_ns, crash)

    def _crash_later(self, member_id: int, restarts: int) -> None:
        if self._restarts[member_id] == restarts:
            self._simulated.members[member_id].lose_power()

    def restart(self, *members: str) -> None:
        """Start members that are down, and wait until they serve.

        Args:
            members: Which; by default all that are down.

        Raises:
            ConfigurationError: There is no such member.
            FaultyMachineError: A member cannot begin with what it has saved, such as because a
                machine cannot load it.
        """
        ids = [self._member_id(each) for each in members] or self._world.member_ids
        started: list[SimulatedProcess] = []
        for member_id in ids:
            self._restarts[member_id] += 1
            simulated = self._simulated.members[member_id]
            simulated.start()
            started += simulated.processes.values()
        trace = self._world.trace
        trace.not_opened = ""
        self._wait(
            lambda: bool(trace.not_opened) or all(process.is_serving for process in started),
            "open their folders",
        )
        if trace.not_opened:
            raise FaultyMachineError(f"member {trace.not_opened}")

    def partition(self, *sides: str | Iterable[str]) -> None:
        """Cut the network between members; clients still reach all of them.

        Args:
            sides: Members that still reach each other, such as `"A", "BC"` or `["A"]`; those that
                are not named are one more side.

        Raises:
            ConfigurationError: There is no such member, or it is on two sides.
        """
        side_of: dict[int, int] = {}
        for number, side in enumerate(sides, 1):
            for member_id in map(self._member_id, side):
                if member_id in side_of:
                    raise ConfigurationError(f"{self._name_of(member_id)} is on two sides")
                side_of[member_id] = number
        ids = self._world.member_ids
        links = [(a, b) for a in ids for b in ids if side_of.get(a, 0) != side_of.get(b, 0)]
        self._world.network.cut(links)
        self._is_cut = self._is_cut or bool(links)

    def heal(self) -> None:
        """Mend the whole network."""
        self._world.network.calm(OPTIONS.network)
        self._is_cut = False

    # Checkpoints.

    def checkpoint(self) -> dict[str, int]:
        """Let every member that is up make a checkpoint of all it has learned.

        Returns:
            By member, the instance of its newest checkpoint.

        Raises:
            CheckpointError: A member cannot make it: a machine cannot be saved, such as because
                its state cannot be pickled.
        """
        self._catch_up()
        made = self._checkpoints.make()
        return {name_member(member_id): instance_id for member_id, instance_id in made.items()}

    def restart_from_checkpoint(self) -> None:
        """Make checkpoints, lose the power of all members, and start them with what they saved.

        Raises:
            CheckpointError: As `checkpoint`.
            FaultyMachineError: A machine cannot load what it saved.
        """
        self.checkpoint()
        for member in self.members:
            self.crash(member)
        self.restart()
        self._check_stopped()

    # Checks.

    def check(self, *, in_other_processes: bool = True) -> None:
        """Find what is wrong with the machines; `in_process_check` says what is looked for.

        Members that are up and reach each other catch up first. Nothing of them is changed.

        Args:
            in_other_processes: Whether the log is executed in other processes, too: that finds what
                depends on the order of sets, on the time of day or on the process.

        Raises:
            FaultyMachineError: Something is wrong; says what, where, and how to mend it.
        """
        self._catch_up()
        witness = self._world.witness
        check = MachineCheck(
            group=GROUP,
            registry=self._world.registry,
            log=witness.log,
            result_chains=witness.result_chains,
            classes=self._shipped,
        )
        if witness.differing is not None:
            member_id, instance_id = witness.differing
            raise FaultyMachineError(
                f"not deterministic: member {name_member(member_id)} came to another result than "
                f"the first one at {check.place(instance_id)}. {BE_DETERMINISTIC}"
            )
        self._check_stopped()
        hosts = {
            member_id: learner.host
            for member_id in self._world.member_ids
            if (learner := self._learner(member_id)) is not None
        }
        queries = list(self._world.queries)
        check.run(hosts, queries, in_other_processes=in_other_processes)

    def _check_stopped(self) -> None:
        stopped = self._world.witness.stopped
        if stopped:
            why = next(iter(stopped.values()))
            others = "" if len(stopped) == len(self.members) else f". {BE_DETERMINISTIC}"
            raise FaultyMachineError(f"failed on {self._named(stopped)}: {why}{others}")

    # Helpers.

    def _learner(self, member_id: int) -> Learner | None:
        return self._simulated.learner(member_id, GROUP)

    def _has_mounted(self, specs: tuple[MachineSpec, ...]) -> bool:
        if self._world.witness.stopped:
            why = next(iter(self._world.witness.stopped.values()))
            raise ConfigurationError(f"a machine cannot be made: {why}")
        learners = map(self._learner, self._world.member_ids)
        return self.master is not None and all(
            learner is not None and set(specs) <= set(learner.host.mounted) for learner in learners
        )

    def _catch_up(self) -> None:
        """Let those that are up and reach each other apply the same."""
        if self._is_cut or self._world.witness.stopped:
            return
        through = len(self._world.witness.log)

        def has_all(member_id: int) -> bool:
            learner = self._learner(member_id)
            return learner is None or bool(learner.stopped) or learner.applied_through >= through

        up = sum(self._learner(each) is not None for each in self._world.member_ids)
        if 2 * up > len(self.members):
            ids = self._world.member_ids
            self._wait(lambda: all(map(has_all, ids)), "catch up")

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        is_done = self._world.until(holds, self._world.now_ns + SETTLE_NS)
        assert is_done, f"members did not {what} within {SETTLE_NS // SECOND_NS} s"

    def _member_id(self, name: str) -> int:
        if name not in self.members:
            raise ConfigurationError(f"member: found {name!r}; allowed: {', '.join(self.members)}")
        return self.members.index(name) + 1

    def _name_of(self, member_id: int) -> str:
        is_up = self._learner(member_id) is not None
        return name_member(member_id) + ("" if is_up else " (down)")

    def _named(self, member_ids: Iterable[int]) -> str:
        return ", ".join(f"member {name_member(each)}" for each in sorted(member_ids))


def _checked_classes(machines: Machines) -> tuple[type[StateMachine], ...]:
    """The classes beside the built-in ones, each once."""
    if not isinstance(machines, Mapping) or not machines:
        raise ConfigurationError(
            f"machines: found {machines!r}; allowed: classes by name, such as "
            '{"ledger": MyMachine}'
        )
    for name, each in machines.items():
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"machines: found the name {name!r}; allowed: text")
        if isinstance(each, StateMachine):
            raise ConfigurationError(
                f"machines: found an object for {name!r}; allowed: its class, of which each member "
                f"makes its own: {type(each).__qualname__}"
            )
        if not isinstance(each, type) or not issubclass(each, StateMachine):
            raise ConfigurationError(
                f"machines: found {each!r} for {name!r}; allowed: a class that derives from "
                "ray_paxos.StateMachine"
            )
    return tuple(dict.fromkeys(each for each in machines.values() if each not in BUILT_IN))
