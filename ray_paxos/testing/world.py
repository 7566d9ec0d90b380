"""What everything in one simulated run shares."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ray_paxos.core.genesis import (
    Genesis,
    GroupSpec,
    MachineSpec,
    MemberSpec,
    Voter,
)
from ray_paxos.machines.kv import KeyValueMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.testing.checker import Checker
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.options import Options
from ray_paxos.testing.trace import Trace, name_member
from ray_paxos.testing.workload import KV_MACHINE, LOG_MACHINE

MACHINES = (MachineSpec(KV_MACHINE, "kv", 1), MachineSpec(LOG_MACHINE, "log", 1))


def make_genesis(members: int, groups: int, followers: int = 0, spares: int = 0) -> Genesis:
    """A cluster of members A, B, C ... (ids 1, 2, 3 ...): voters, then followers, then spares."""
    everybody = tuple(Voter(m, m) for m in range(1, members + followers + spares + 1))
    specs = tuple(MemberSpec(name_member(each.member_id), each.member_id) for each in everybody)
    group_specs = tuple(
        GroupSpec(g, everybody[:members], MACHINES, followers=everybody[members:][:followers])
        for g in range(groups)
    )
    return Genesis(1, "simulated", "0" * 32, specs, group_specs)


class BigLogMachine(LogMachine):
    """The log machine, as one that is too big for two copies on a member."""

    is_saved_by_learner = True


@dataclass
class World:
    """One run's time, randomness, rules and judge.

    Attributes:
        options: How this world is made.
        random: The one source of randomness of the run.
        genesis: Of the simulated cluster.
        registry: Machines that can be mounted.
        scheduler: Virtual time.
        checker: The judge.
        trace: What happened.
    """

    options: Options
    random: Random
    genesis: Genesis
    trace: Trace
    checker: Checker
    scheduler: Scheduler
    registry: MachineRegistry

    @classmethod
    def make(cls, options: Options, random: Random, trace: Trace) -> World:
        """A world where nothing has happened yet."""
        genesis = make_genesis(options.members, options.groups, options.followers, options.spares)
        scheduler = Scheduler()
        classes = (KeyValueMachine, BigLogMachine if options.learner_saves else LogMachine)
        registry = MachineRegistry(classes)
        checker = Checker(genesis, scheduler, options.drift_ppm, registry)
        return cls(options, random, genesis, trace, checker, scheduler, registry)

    @property
    def now_ns(self) -> int:
        """Virtual time."""
        return self.scheduler.now_ns

    @property
    def member_ids(self) -> tuple[int, ...]:
        """All members, ascending."""
        return tuple(member.member_id for member in self.genesis.members)

    def say(self, what: str) -> None:
        """One line for a reader, and for the trace's hash."""
        self.trace.note(self.now_ns, what)
        self.trace.say(self.now_ns, what)
