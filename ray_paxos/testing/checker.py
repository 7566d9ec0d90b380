"""Checks every rule after every step, from outside: records, messages, events, answers.

The checker sees what each process hands to its store, what the store syncs, what leaves for the
network, which events a role reports and what clients are told. It keeps its own account of what is
chosen (`votes`), of what is durable (`durability`) and of what the machines hold (`reference`), and
raises `Violation` the moment anything contradicts it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.events import (
    ApplyingStopped,
    Event,
    FloorRaised,
    InstanceApplied,
    InstanceChosen,
    InvariantBroken,
    MasterStarted,
)
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.invariants import status_contradicts
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    ChainPoint,
    Chosen,
    Envelope,
    Heartbeat,
    HeartbeatConfirmed,
    LearnerStatus,
    LearnReply,
    Nack,
    Prepare,
    Promise,
    QueryResult,
    RoleName,
    VoteFloorRaised,
)
from ray_paxos.core.records import Record
from ray_paxos.testing.client import Operation, PendingRead
from ray_paxos.testing.coverage import PAGES, SeedCoverage
from ray_paxos.testing.durability import AcceptorWatch, SegmentWatch, floor_uncovered
from ray_paxos.testing.log_watch import LogWatch
from ray_paxos.testing.trace import name_address, name_member
from ray_paxos.testing.violation import Violation, expect
from ray_paxos.testing.votes import VoteLedger

ACCEPTOR_ANSWERS = (Promise, Accepted, HeartbeatConfirmed, Nack, BelowFloor, VoteFloorRaised)


class Checker:
    """Judges one run.

    Attributes:
        coverage: What the run has seen so far.
        logs: By group, what was applied.
    """

    def __init__(self, genesis: Genesis) -> None:
        """Start before anything happened."""
        self.coverage = SeedCoverage()
        self.ledgers = {g.group: VoteLedger(g.group, g.configuration) for g in genesis.groups}
        self.logs = {g.group: LogWatch(g.group, self.ledgers[g.group]) for g in genesis.groups}
        member_ids = [member.member_id for member in genesis.members]
        self.acceptors = {m: AcceptorWatch(m) for m in member_ids}
        self.segments = {m: SegmentWatch(m) for m in member_ids}
        self._voters = {
            g.group: [self.segments[v.member_id] for v in g.voters] for g in genesis.groups
        }

    # Storage.

    def acceptor_opened(self, member_id: int, state: AcceptorState) -> None:
        """An acceptor begins a life with what it found."""
        self.acceptors[member_id].opened(state)
        for group, votes in state.groups.items():
            self._check_floor(group, member_id, votes.floor)

    def learner_opened(
        self, member_id: int, group: int, durable_through: int, point: ChainPoint
    ) -> None:
        """A learner begins a life with what it found, and has applied it."""
        self.segments[member_id].opened(group, durable_through)
        self.logs[group].opened(member_id, point)

    def writing(self, process: Address, records: Sequence[Record]) -> None:
        """A process is about to hand records to its store."""
        if process.role is RoleName.ACCEPTOR:
            self.acceptors[process.member_id].writing(records)

    def wrote(self, process: Address, records: Sequence[Record]) -> None:
        """A process handed records to its store."""
        if process.role is RoleName.ACCEPTOR:
            self.acceptors[process.member_id].wrote(records)
        elif process.role is RoleName.LEARNER:
            self.segments[process.member_id].wrote(records)

    def synced(self, process: Address) -> None:
        """A process's store made everything durable that it was handed."""
        if process.role is RoleName.ACCEPTOR:
            self.acceptors[process.member_id].synced()
        elif process.role is RoleName.LEARNER:
            self.segments[process.member_id].synced()

    def has_unsynced(self, process: Address) -> bool:
        """Whether a process has handed over what is not durable yet."""
        if process.role is RoleName.ACCEPTOR:
            return self.acceptors[process.member_id].has_unsynced
        if process.role is RoleName.LEARNER:
            return self.segments[process.member_id].has_unsynced
        return False

    def acceptor_stepped(self, member_id: int, state: AcceptorState) -> None:
        """An acceptor handled something."""
        self.acceptors[member_id].stepped(state)

    # Messages.

    def receiving(self, to: Address, envelope: Envelope) -> None:
        """A process is about to handle a message."""
        promise = envelope.message
        if isinstance(promise, Promise) and promise.ballot.member_id == to.member_id:
            self.ledgers[envelope.group].promises.promised(envelope.sender.member_id, promise)

    def sending(self, sender: Address, life: int, envelope: Envelope) -> None:
        """A process's message leaves now."""
        group, message = envelope.group, envelope.message
        if isinstance(message, ACCEPTOR_ANSWERS):
            self.acceptors[sender.member_id].sending(group, message)
            if isinstance(message, Accepted) and group in self.ledgers:
                self.ledgers[group].accepted(
                    message.instance_id, message.ballot, sender.member_id, envelope.config_id
                )
            elif isinstance(message, Promise | BelowFloor):
                if isinstance(message, Promise) and message.next_instance is not None:
                    self.coverage.seen[PAGES] += 1
                self._check_floor(group, sender.member_id, message.floor)
        elif isinstance(message, Accept | Prepare | Heartbeat):
            ledger = self.ledgers[group]
            ledger.used(message.ballot, sender.member_id, envelope.incarnation, life)
            if isinstance(message, Accept):
                ledger.proposed(message.instance_id, message.ballot, message.value)
            elif isinstance(message, Heartbeat):
                self._check_claims(sender, group, message)
        elif isinstance(message, Chosen | LearnReply):
            for chosen in message.values:
                self.ledgers[group].claimed(chosen.instance_id, chosen.value, name_address(sender))
            if isinstance(message, Chosen):
                self._check_claims(sender, group, message)
            else:
                self.ledgers[group].claimed_through(message.learned_through, name_address(sender))
        elif isinstance(message, LearnerStatus):
            wrong = status_contradicts(message)
            if wrong:
                raise Violation("R6", f"group {group}: {name_address(sender)} {wrong}")
            self.ledgers[group].claimed_through(message.learned_through, name_address(sender))
            self.segments[sender.member_id].vouching(group, message.durable_through)
            self.logs[group].told(sender.member_id, message)

    def _check_claims(self, sender: Address, group: int, message: Heartbeat | Chosen) -> None:
        by = name_address(sender)
        self.ledgers[group].claimed_through(message.chosen_through, by)
        told = message.majority_durable
        durable = [w.was_durable_through(group) for w in self._voters[group]]
        if 2 * sum(through >= told for through in durable) <= len(durable):
            what = f"{by} says that a majority is durable through {told}; it is {durable}"
            raise Violation("floor", f"group {group}: {what}")

    def _check_floor(self, group: int, member_id: int, floor: int) -> None:
        if floor <= 1:
            return
        wrong = floor_uncovered(group, floor, self.segments[member_id], self._voters[group])
        if wrong:
            raise Violation("floor", f"group {group}: {name_member(member_id)}: {wrong}")

    # Events.

    def event(self, process: Address, event: Event) -> None:
        """A role reports what happened."""
        self.coverage.event(event)
        match event:
            case InstanceApplied(group=group):
                self.logs[group].applied(process.member_id, event)
            case InstanceChosen(group=group, instance_id=instance_id, value=value):
                self.ledgers[group].claimed(instance_id, value, name_address(process))
            case FloorRaised(group=group, floor=floor):
                self._check_floor(group, process.member_id, floor)
            case MasterStarted(group=group, ballot=ballot, instance_id=instance_id):
                self.logs[group].master_started(process.member_id, ballot, instance_id)
            case InvariantBroken(what=what):
                raise Violation("invariant", f"{name_address(process)}: {what}")
            case ApplyingStopped(why=why):
                raise Violation("R12", f"{name_address(process)} stopped applying: {why}")
            case _:
                pass

    # Clients.

    def acknowledged(self, operation: Operation) -> None:
        """A client was told what became of a command (R7)."""
        self.coverage.commands += 1
        log = self.logs[operation.group]
        outcome = log.reference.outcome(operation.session, operation.number)
        what = f"group {operation.group}: number {operation.number} of {operation.session}"
        if outcome is None:
            raise Violation("R7", f"{what} is acknowledged and nobody has applied it")
        applied = log.reference.command(operation.session, operation.number)
        if applied != operation.command:
            raise Violation("R7", f"{what} stands for another command in the log")
        expect(
            outcome == operation.outcome, "R7", f"{what}: told {operation.outcome}, is {outcome}"
        )

    def read_answered(self, group: int, read: PendingRead, answer: QueryResult) -> None:
        """A client's read was answered: with the state as of the instance it names."""
        log = self.logs[group]
        at = answer.applied_through
        what = f"group {group}: a read as of {at}"
        expect(at >= read.at_least, "R8", f"{what}, at least {read.at_least} was asked")
        expect(at <= log.reference.applied_through, "R8", f"{what}, which nobody has applied")
        found, expected = log.answer(read.machine, read.request, at, answer.result)
        expect(found == expected, "R8", f"{what}: {found}, and it is {expected}")
