"""Scripted schedules: a test plays the network and the fate of processes by hand.

A scenario is the simulated cluster on a calm network, in which nothing happens by chance. No
proposer stands until the script says so; any messages can be held back, dropped or sent again;
syncs can be held; processes and members are killed, lose power and start again. All the checks of
the random walk run along, so a schedule that breaks a rule raises `Violation` at that step.

```python
play = Scenario(members=3)                    # members A, B, C
play.stand("A")                               # A is elected and serves
client = play.client()
client.call("A", b"first")                    # chosen, applied, acknowledged
lost = play.lose(Accept, to="B C")            # from here on these are lost
client.submit("A", b"second")
play.run(ms=100)
play.cut_power("A")
```

Members and roles are named `A` (all roles of a member), `A.acceptor`, or several: `B C.learner`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.acceptor_state import GroupVotes
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import Address, Envelope, Message, RoleName
from ray_paxos.core.proposer import Proposer
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.settings import (
    MILLISECOND_NS,
    CheckpointerSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.machines.log import decode_page, encode_lines
from ray_paxos.storage.identity import log_folder
from ray_paxos.testing.cluster import SimulatedCluster, SimulatedMember
from ray_paxos.testing.options import MICROSECOND_NS, DiskOptions, Options
from ray_paxos.testing.process import SimulatedProcess
from ray_paxos.testing.scripted_client import ScriptedClient
from ray_paxos.testing.scripted_network import Fate, Rule, ScriptedTransport, is_named
from ray_paxos.testing.trace import Trace, name_member
from ray_paxos.testing.workload import LOG_MACHINE
from ray_paxos.testing.world import World

UNTIL_MS = 10_000
CLIENT_ID = 1_000

CALM = Options(
    members=3,
    groups=1,
    disk=DiskOptions(sync_min_ns=100 * MICROSECOND_NS, sync_spread_ns=0),
    proposer=ProposerSettings(
        election_timeout_ns=1_000 * MILLISECOND_NS,
        lease_ns=0,
        heartbeat_interval_ns=50 * MILLISECOND_NS,
        retransmit_ns=100 * MILLISECOND_NS,
        chosen_delay_ns=0,
        learner_gap_ns=300 * MILLISECOND_NS,
    ),
    learner=LearnerSettings(seal_age_ns=50 * MILLISECOND_NS),
    checkpointer=CheckpointerSettings(merge_count=1_000, scrub_interval_ns=0),
)


class _LeastOfAll(random.Random):
    """Always the lowest choice: of what was not synced a power loss then keeps nothing."""

    def random(self) -> float:
        return 0.0

    def getrandbits(self, k: int, /) -> int:
        return 0


class Scenario:
    """One scripted run.

    Attributes:
        world: Its time and its judge.
        transport: Its network.
        cluster: Its members.
    """

    def __init__(
        self, members: int = 3, *, options: Options = CALM, print_trace: bool = False
    ) -> None:
        """Start all members; nobody stands, nothing is chosen.

        Args:
            members: How many; their names are A, B, C ...
            options: Limits and times, followers and spares, whose names go on after those of the
                members; drift and faults are not used.
            print_trace: Print everything that happens, to write or mend a schedule.
        """
        trace = Trace(print if print_trace else None)
        options = replace(options, members=members)
        self.world = World.make(options, random.Random("scenario"), trace)
        self.transport = ScriptedTransport(self.world)
        self.cluster = SimulatedCluster(self.world, self.transport)
        self._clients = 0
        for member in self.cluster.members.values():
            self._start(member.member_id, list(member.processes.values()))
        self.run(ms=5)

    # Time.

    def run(self, ms: float) -> None:
        """Let virtual time pass."""
        scheduler = self.world.scheduler
        end_ns = scheduler.now_ns + int(ms * MILLISECOND_NS)
        while scheduler.next_ns is not None and scheduler.next_ns <= end_ns:
            scheduler.step()
        scheduler.now_ns = end_ns

    def until(self, holds: Callable[[], bool], ms: float = UNTIL_MS, what: str = "") -> None:
        """Let virtual time pass until something holds.

        Raises:
            AssertionError: It never did.
        """
        end_ns = self.world.now_ns + int(ms * MILLISECOND_NS)
        while not holds():
            assert self.world.now_ns < end_ns, f"never, in {ms} ms: {what or holds}"
            self.run(ms=0.5)

    # The network.

    def lose(
        self,
        *kinds: type,
        sender: str = "",
        to: str = "",
        instance: int = 0,
        group: int | None = None,
    ) -> Rule:
        """From now on, lose these messages (of any kind where none is given)."""
        return self._rule(Fate.LOST, kinds, sender, to, instance, group)

    def hold(
        self,
        *kinds: type,
        sender: str = "",
        to: str = "",
        instance: int = 0,
        group: int | None = None,
    ) -> Rule:
        """From now on, hold these messages back; `deliver` or `end` the rule later."""
        return self._rule(Fate.HELD, kinds, sender, to, instance, group)

    def watch(self, *kinds: type, sender: str = "", to: str = "", instance: int = 0) -> Rule:
        """From now on, count these messages; those that another rule stops first do not count."""
        return self._rule(Fate.SEEN, kinds, sender, to, instance, None)

    def _rule(
        self,
        fate: Fate,
        kinds: tuple[type, ...],
        sender: str,
        to: str,
        instance: int,
        group: int | None,
    ) -> Rule:
        senders, receivers = tuple(sender.split()), tuple(to.split())
        rule = Rule(kinds, senders, receivers, instance, group, fate)
        self.transport.rules.append(rule)
        return rule

    def cut(self, left: str, right: str) -> tuple[Rule, Rule]:
        """Lose everything between two sets of members, both ways."""
        return self.lose(sender=left, to=right), self.lose(sender=right, to=left)

    def deliver(self, rule: Rule) -> None:
        """Hold nothing more, and carry what was held back, in its order."""
        self.end(rule)
        held, rule.held = rule.held, []
        for sender, to, envelope in held:
            self.transport.carry(sender, to, envelope)

    def end(self, *rules: Rule) -> None:
        """From now on, carry what these rules lost or held; what they held already is not sent."""
        for rule in rules:
            rule.is_active = False

    def inject(
        self,
        sender: Address,
        to: str,
        message: Message,
        *,
        group: int = 0,
        replica_id: int = 0,
        config_id: int = 0,
    ) -> None:
        """Carry a message that nobody sent."""
        genesis = self.world.genesis.hash()
        envelope = Envelope(genesis, group, sender, replica_id, 1, config_id, message)
        self.transport.carry(sender, self.process(to).address, envelope)

    # Processes.

    def process(self, name: str) -> SimulatedProcess:
        """The process of that name, such as `B.learner`."""
        return next(p for p in self.cluster.processes if p.name == name)

    def member(self, name: str) -> SimulatedMember:
        """The member of that name."""
        return next(m for m in self.cluster.members.values() if name_member(m.member_id) == name)

    def kill(self, names: str) -> None:
        """Kill processes, or all those of members; what they wrote stays in the page cache."""
        for process in self._named(names):
            process.kill()

    def cut_power(self, names: str) -> None:
        """Members lose power: all their processes die, and nothing unsynced is left."""
        for name in names.split():
            member = self.member(name)
            for process in member.processes.values():
                process.kill()
            member.disk.power_loss(_LeastOfAll())
            member.boot()

    def lose_segments(self, name: str, group: int = 0) -> None:
        """A member's chosen log is lost, as no crash loses it; its learner must be down."""
        member = self.member(name)
        assert not self.process(f"{name}.learner").is_up, "the learner holds what it opened"
        folder = log_folder(group)
        for file in member.disk.list(folder):
            member.disk.remove(f"{folder}/{file}")
        self.world.checker.segments[member.member_id].forget(group)

    def start(self, names: str) -> None:
        """Start what is down, and let it open; proposers do not stand by themselves."""
        for process in self._named(names):
            if not process.is_up:
                self._start(process.address.member_id, [process])
        self.run(ms=3)

    def _start(self, member_id: int, processes: list[SimulatedProcess]) -> None:
        for process in processes:
            process.timers_frozen = process.address.role is RoleName.PROPOSER
            process.start(self.cluster.members[member_id].clock)

    def _named(self, names: str) -> list[SimulatedProcess]:
        wanted = tuple(names.split())
        return [p for p in self.cluster.processes if is_named(p.address, wanted)]

    def pause(self, names: str) -> None:
        """Suspend processes, or all those of members; their clock runs on, messages wait."""
        for process in self._named(names):
            process.suspend()

    def resume(self, names: str) -> None:
        """Let them go on, first with what came meanwhile."""
        for process in self._named(names):
            process.resume()

    def stall(self, names: str) -> None:
        """Their syncs do not end any more, until `quicken`."""
        for process in self._named(names):
            process.faults.syncs_held = True

    def quicken(self, names: str) -> None:
        """Let syncs end again."""
        for process in self._named(names):
            process.release_syncs()

    # The protocol.

    def stand(self, name: str) -> None:
        """Let a member's proposer stand, and wait until it serves in group 0."""
        self.try_to_stand(name)
        self.until(lambda: self.proposer(name).is_serving, what=f"{name} serves")

    def try_to_stand(self, name: str) -> None:
        """Let a member's proposer stand, and keep its deadlines from now on."""
        self.process(f"{name}.proposer").thaw_timers()

    def let_all_stand(self) -> None:
        """Every proposer keeps its deadlines from now on."""
        for member_id in self.world.member_ids:
            self.try_to_stand(name_member(member_id))

    def masters(self) -> list[str]:
        """The members that serve in group 0."""
        names = map(name_member, self.world.member_ids)
        return [n for n in names if self.has_group(f"{n}.proposer") and self.proposer(n).is_serving]

    def has_group(self, name: str, group: int = 0) -> bool:
        """Whether a process, such as `D.learner`, is open and plays its role in a group."""
        process = self.process(name)
        if not process.is_serving:
            return False
        role = process.role
        assert isinstance(role, Acceptor | GroupRouter)
        return group in (role.state.groups if isinstance(role, Acceptor) else role.roles)

    def freeze(self, name: str) -> None:
        """A member's proposer keeps no deadline any more: no heartbeat, no new attempt."""
        self.process(f"{name}.proposer").timers_frozen = True

    def believes(self, name: str, group: int = 0) -> bool:
        """Whether a proposer or learner, such as `A.learner`, would act on a lease of its own."""
        return self.world.checker.leases[group].believes(self.process(name).address)

    def proposer(self, name: str, group: int = 0) -> Proposer:
        """A member's proposer of a group."""
        router = self.process(f"{name}.proposer").role
        assert isinstance(router, GroupRouter)
        proposer = router.roles[group]
        assert isinstance(proposer, Proposer)
        return proposer

    def learner(self, name: str, group: int = 0) -> Learner:
        """A member's learner of a group."""
        router = self.process(f"{name}.learner").role
        assert isinstance(router, GroupRouter)
        learner = router.roles[group]
        assert isinstance(learner, Learner)
        return learner

    def votes(self, name: str, group: int = 0) -> GroupVotes:
        """A member's acceptor's state of a group."""
        acceptor = self.process(f"{name}.acceptor").role
        assert isinstance(acceptor, Acceptor)
        return acceptor.state.groups[group]

    def lines(self, name: str, group: int = 0) -> list[bytes]:
        """What the log machine holds at a member."""
        host = self.learner(name, group).host
        if LOG_MACHINE not in [spec.name for spec in host.mounted]:
            return []
        page = host.query(LOG_MACHINE, encode_lines())
        return list(decode_page(page).lines)

    def client(self, group: int = 0) -> ScriptedClient:
        """A new client, without a session."""
        self._clients += 1
        client = ScriptedClient(self.world, CLIENT_ID + self._clients, group, self.transport)
        client.run_until = self.until
        self.cluster.receivers[client.address.member_id] = client.receive
        return client
