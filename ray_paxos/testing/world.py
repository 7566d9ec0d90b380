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
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.log import LogMachine
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.testing.checker import Checker
from ray_paxos.testing.clock import Scheduler
from ray_paxos.testing.options import Options
from ray_paxos.testing.recipe_machines import RECIPE_CLASSES, machines_of
from ray_paxos.testing.trace import Trace, name_member
from ray_paxos.testing.workload import KV_MACHINE, LOG_MACHINE

MACHINES = (MachineSpec(KV_MACHINE, "kv", 1), MachineSpec(LOG_MACHINE, "log", 1))


def make_genesis(
    members: int,
    groups: int,
    followers: int = 0,
    spares: int = 0,
    machines: tuple[MachineSpec, ...] = MACHINES,
) -> Genesis:
    """A cluster of members A, B, C ... (ids 1, 2, 3 ...): voters, then followers, then spares.

    Spares have no group; those that join later are no part of it at all (`Options.joiners`).
    """
    everybody = tuple(Voter(m, m) for m in range(1, members + followers + spares + 1))
    specs = tuple(MemberSpec(name_member(each.member_id), each.member_id) for each in everybody)
    group_specs = tuple(
        GroupSpec(g, everybody[:members], machines, followers=everybody[members:][:followers])
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
        machines = (*MACHINES, *machines_of(options.recipes))
        genesis = make_genesis(
            options.members, options.groups, options.followers, options.spares, machines
        )
        scheduler = Scheduler()
        classes = (KeyValueMachine, BigLogMachine if options.learner_saves else LogMachine)
        registry = MachineRegistry((*classes, *(RECIPE_CLASSES if options.recipes else ())))
        members = len(genesis.members) + options.joiners
        checker = Checker(genesis, members, scheduler, options.drift_ppm, registry)
        return cls(options, random, genesis, trace, checker, scheduler, registry)

    @property
    def now_ns(self) -> int:
        """Virtual time."""
        return self.scheduler.now_ns

    @property
    def member_ids(self) -> tuple[int, ...]:
        """All members, ascending: those of the genesis, and those that join."""
        return tuple(range(1, len(self.genesis.members) + self.options.joiners + 1))

    def joined_as(self, member_id: int) -> str:
        """The name of a member that is not of the genesis; empty for one that is."""
        is_of_genesis = member_id <= len(self.genesis.members)
        return "" if is_of_genesis else name_member(member_id)

    def say(self, what: str) -> None:
        """One line for a reader, and for the trace's hash."""
        self.trace.note(self.now_ns, what)
        self.trace.say(self.now_ns, what)
