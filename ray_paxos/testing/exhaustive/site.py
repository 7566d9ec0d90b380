"""One place of a model: processes of one member that share a clock and act as one.

Two processes of one site talk without delay: what one sends the other is handled within the same
step, in order. Sites talk through the network. How processes are put into sites is a model's
choice, and a bound of what it explores: a proposer and its own learner in one site leave out the
orders in which their messages change places.

A step runs the real driver and the real role. A step that breaks what can be judged here (`judge`)
raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.driver import Action as Order
from ray_paxos.core.driver import Driver, Observe, Run, Transmit, Write
from ray_paxos.core.events import PrepareStarted
from ray_paxos.core.genesis import GENESIS_CONFIG_ID
from ray_paxos.core.member_roles import PartsKeeper
from ray_paxos.core.messages import Address, Envelope, LeaseNotice, RoleName
from ray_paxos.core.parts import MembersMet, PartLeft, PartTaken
from ray_paxos.core.records import Record, SealSegment
from ray_paxos.core.role import Role
from ray_paxos.core.tasks import FollowParts, PartsOpened
from ray_paxos.testing.exhaustive import roles
from ray_paxos.testing.exhaustive.actions import (
    Action,
    CutPower,
    Deliver,
    Fire,
    Kill,
    LoseLog,
    Packet,
    Ring,
    Sync,
    Tick,
)
from ray_paxos.testing.exhaustive.facts import (
    Fact,
    facts_of_event,
    facts_of_packet,
    facts_of_records,
)
from ray_paxos.testing.exhaustive.judge import (
    held_votes,
    judge_acceptor,
    judge_event,
    judge_message,
)
from ray_paxos.testing.exhaustive.roles import GENESIS, GROUP, Durable, Recipe
from ray_paxos.testing.exhaustive.situations import situations, situations_of_death
from ray_paxos.testing.exhaustive.word import Word


@dataclass
class SiteProcess:
    """One role of one member.

    Attributes:
        address: Which.
        syncs_at_once: Whether a write is durable as soon as it is made.
        incarnation: Of its folder.
        life: Counts its starts; independent of what is on its disk.
        driver: Runs its role.
        role: The real thing.
        durable: What it has made durable.
        unsynced: What it has written since.
        word: What it has granted, whatever it remembers of it.
        ballot: Of a proposer's latest prepare; the highest of a lease that a learner was told of,
        notice_config_id: and under which configuration that was counted.
    """

    address: Address
    syncs_at_once: bool
    incarnation: int
    life: int
    driver: Driver
    role: Role
    durable: Durable
    unsynced: list[Write] = field(default_factory=list)
    word: Word = field(default_factory=Word)
    ballot: Ballot | None = None
    notice_config_id: int = GENESIS_CONFIG_ID

    def fold(self) -> list[Fact]:
        """Make durable what was written; returns what is true now that was not before."""
        records = [record for write in self.unsynced for record in write.records]
        votes = self.durable.votes.groups.get(GROUP)
        replica_id = votes.replica_id if votes is not None else 0
        for record in records:
            _note_durable(self.durable, record)
        self.unsynced = []
        return list(facts_of_records(self.address.member_id, replica_id, records))


def _note_durable(durable: Durable, record: Record) -> None:
    match record:
        case SealSegment(instances=instances):
            durable.sealed.extend(instances)
        case PartTaken() | PartLeft() | MembersMet():
            durable.parts.apply(record)
            if isinstance(record, PartLeft):
                durable.sealed.clear()
        case _:
            durable.votes.apply(record)


@dataclass
class Outcome:
    """What a step did beyond its site.

    Attributes:
        recipe: Makes the roles of what a keeper takes.
        packets: What left.
        facts: What was said and reported, also within the site, in order.
        seen: What was special about it (`situations`).
    """

    recipe: Recipe
    packets: list[Packet] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)


class Site:
    """Processes of one member; steps change it in place.

    Attributes:
        name: For a person.
        clock_ns: What its processes take the time for.
        processes: By address.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[Address],
        recipe: Recipe,
        *,
        syncs_at_once: bool,
        seals_at_once: bool = True,
    ) -> None:
        """Open all processes for the first time.

        Args:
            name: For a person.
            addresses: Of the processes, of one member.
            recipe: Makes the roles.
            syncs_at_once: Whether an acceptor's writes are durable as soon as they are made,
            seals_at_once: and a learner's.
        """
        self.name = name
        self.clock_ns = 0
        self.processes: dict[Address, SiteProcess] = {}
        for address in addresses:
            at_once = seals_at_once
            if address.role is RoleName.ACCEPTOR:
                at_once = syncs_at_once
            durable = roles.first_durable(recipe, address.member_id)
            role, driver = self._opened(recipe, address, 1, durable)
            self.processes[address] = SiteProcess(address, at_once, 1, 1, driver, role, durable)

    def _opened(
        self, recipe: Recipe, address: Address, incarnation: int, durable: Durable
    ) -> tuple[Role, Driver]:
        role = roles.make_role(recipe, address, incarnation, durable, self.clock_ns)
        return role, Driver(role, genesis=GENESIS, sender=address, incarnation=incarnation)

    def can(self, action: Action) -> bool:
        """Whether an action could do anything here now."""
        match action:
            case Fire(process=address):
                return self.processes[address].driver.deadline_ns is not None
            case Ring(process=address):
                deadline_ns = self.processes[address].driver.deadline_ns
                return deadline_ns is not None and deadline_ns <= self.clock_ns
            case Sync(process=address) | CutPower(process=address):
                return bool(self.processes[address].unsynced)
            case LoseLog(process=address):
                return bool(self.processes[address].durable.sealed)
            case _:
                return True

    def step(self, action: Action, recipe: Recipe) -> Outcome:
        """Do one thing.

        Raises:
            Violation: A rule is broken.
        """
        outcome = Outcome(recipe)
        match action:
            case Deliver(packet=packet):
                self._deliver(self.processes[packet.to], packet.envelope, recipe, outcome)
            case Fire(process=address) | Ring(process=address):
                self._fire(self.processes[address], outcome)
            case Sync(process=address):
                process = self.processes[address]
                self._run(process, self._make_durable(process, outcome), outcome)
            case Kill(process=address):
                outcome.facts += self.processes[address].fold()
                self._restart(self.processes[address], recipe)
            case CutPower(process=address):
                outcome.seen += situations_of_death(self.processes[address].role)
                self._restart(self.processes[address], recipe)
            case LoseLog(process=address):
                self.processes[address].durable.sealed.clear()
                self._restart(self.processes[address], recipe)
            case Tick(passed_ns=passed_ns):
                self.clock_ns += passed_ns
        return outcome

    # Parts of a step.

    def _deliver(
        self, process: SiteProcess, envelope: Envelope, recipe: Recipe, outcome: Outcome
    ) -> None:
        before = held_votes(process.role)
        orders = self._receive(process, envelope, outcome)
        if before is not None:
            judge_acceptor(process.address, before, process.role)
            process.word.heard(envelope)
            process.word.judge(orders, self.clock_ns)
        self._run(process, orders, outcome)
        if before is not None:
            answers = [packet.envelope.message for packet in outcome.packets]
            drift_ppm = recipe.acceptor.clock_drift_ppm
            process.word.answered(envelope.message, answers, self.clock_ns, drift_ppm)

    def _fire(self, process: SiteProcess, outcome: Outcome) -> None:
        deadline_ns = process.driver.deadline_ns
        assert deadline_ns is not None, "it waits for something"
        self.clock_ns = max(self.clock_ns, deadline_ns)
        self._run(process, process.driver.on_deadline(self.clock_ns), outcome)

    def _run(self, process: SiteProcess, orders: Sequence[Order], outcome: Outcome) -> None:
        """Do what a driver says, and let the other processes here handle what it sent them."""
        inside: deque[tuple[SiteProcess, Envelope]] = deque()
        self._do(process, orders, inside, outcome)
        while inside:
            receiver, envelope = inside.popleft()
            orders = self._receive(receiver, envelope, outcome)
            self._do(receiver, orders, inside, outcome)

    def _receive(self, process: SiteProcess, envelope: Envelope, outcome: Outcome) -> list[Order]:
        notice = envelope.message
        if isinstance(notice, LeaseNotice) and (
            process.ballot is None or notice.ballot >= process.ballot
        ):
            process.ballot = notice.ballot
            process.notice_config_id = envelope.config_id
        orders = process.driver.receive(envelope, self.clock_ns)
        outcome.seen += situations(process.address, process.role, envelope, orders, self.clock_ns)
        return orders

    def _do(
        self,
        process: SiteProcess,
        orders: Sequence[Order],
        inside: deque[tuple[SiteProcess, Envelope]],
        outcome: Outcome,
    ) -> None:
        for order in orders:
            match order:
                case Transmit(to=to, envelope=envelope):
                    judge_message(process.address, envelope, process.durable.votes)
                    packet = Packet(to, envelope)
                    outcome.facts += facts_of_packet(packet, process.life)
                    if to in self.processes:
                        inside.append((self.processes[to], envelope))
                    else:
                        outcome.packets.append(packet)
                case Observe(event=event):
                    judge_event(process.address, event)
                    if isinstance(event, PrepareStarted):
                        process.ballot = event.ballot
                    outcome.facts += facts_of_event(process.address, event)
                case Write():
                    process.unsynced.append(order)
                    if process.syncs_at_once:
                        self._do(process, self._make_durable(process, outcome), inside, outcome)
                case Run(task=FollowParts() as task):
                    opened = self._open_parts(process, outcome.recipe)
                    orders = process.driver.on_outcome(task, opened, self.clock_ns)
                    self._do(process, orders, inside, outcome)
                case _:
                    raise AssertionError(f"no model has a checkpointer for {order}")

    def _open_parts(self, process: SiteProcess, recipe: Recipe) -> PartsOpened:
        assert isinstance(process.role, PartsKeeper), "nobody else takes parts here"
        member_id, here = process.address.member_id, process.role.roles
        return roles.open_parts(recipe, member_id, process.incarnation, process.durable, here)

    def _make_durable(self, process: SiteProcess, outcome: Outcome) -> list[Order]:
        number = process.unsynced[-1].number
        outcome.facts += process.fold()
        return process.driver.on_durable(number, self.clock_ns)

    def _restart(self, process: SiteProcess, recipe: Recipe) -> None:
        """Begin another life with what is durable."""
        process.life += 1
        process.incarnation = roles.next_incarnation(process.incarnation)
        process.unsynced = []
        process.ballot = None
        process.durable.votes = roles.rolled(process.durable.votes)
        process.role, process.driver = self._opened(
            recipe, process.address, process.incarnation, process.durable
        )
