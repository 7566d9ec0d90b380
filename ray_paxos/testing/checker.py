"""Checks every rule after every step, from outside: records, messages, events, answers.

The checker sees what each process hands to its store, what the store syncs, what leaves for the
network, which events a role reports and what clients are told. It keeps its own account of what is
chosen (`votes`), of what is durable (`durability`), of what the machines hold (`reference`), of who
may believe in a lease (`lease_watch`) and of what reads must have seen (`read_watch`), and raises
`Violation` the moment anything contradicts it. In the end the histories of all keys are checked for
linearizability (`recording`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.client_messages import (
    Query,
    QueryAnswers,
    QueryFailed,
    QueryMany,
    QueryProblem,
    QueryResult,
    QuorumRead,
    ReadIndex,
    ReadIndexConfirmed,
    RefusalCode,
    Refused,
)
from ray_paxos.core.events import (
    ApplyingStopped,
    CaughtUp,
    CheckpointDamaged,
    CheckpointInstalled,
    CheckpointPublished,
    ChunkDiffered,
    ChunksConfirmed,
    ConfigurationLearned,
    Event,
    FloorRaised,
    InstanceApplied,
    InstanceChosen,
    InvariantBroken,
    LogCutOff,
    MasterStarted,
    SegmentDamageFound,
)
from ray_paxos.core.genesis import Genesis, Voter
from ray_paxos.core.invariants import status_contradicts
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import (
    ChainPoint,
    Chosen,
    LearnerStatus,
    LearnReply,
    VoteFloorRaised,
)
from ray_paxos.core.messages import (
    Accept,
    Accepted,
    Address,
    BelowFloor,
    Envelope,
    Heartbeat,
    HeartbeatConfirmed,
    Message,
    Nack,
    Prepare,
    Promise,
    RoleName,
)
from ray_paxos.core.parts import PartLeft, Parts, PartTaken
from ray_paxos.core.records import GroupRemoved, Record
from ray_paxos.core.role import GroupRouter, Role
from ray_paxos.core.values import SessionId
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.testing.client import Operation
from ray_paxos.testing.clock import MachineClock, Scheduler
from ray_paxos.testing.coverage import (
    DAMAGE,
    DENIED,
    INDEX_BY_ROUND,
    OVERLOADED,
    PAGES,
    PART_LEFT,
    PART_TAKEN,
    READ_OVERLOADED,
    UNKNOWN,
    WITHDRAWN,
    SeedCoverage,
    name_read,
)
from ray_paxos.testing.damage import MemberDamage
from ray_paxos.testing.disk import SimulatedDisk
from ray_paxos.testing.disk_watch import DiskWatch
from ray_paxos.testing.durability import (
    AcceptorWatch,
    SegmentWatch,
    floor_uncovered,
    is_durable_at_majority,
)
from ray_paxos.testing.lease_watch import LeaseWatch
from ray_paxos.testing.log_watch import LogWatch
from ray_paxos.testing.read_watch import ReadWatch
from ray_paxos.testing.reads import Read
from ray_paxos.testing.recording import GroupRecording
from ray_paxos.testing.trace import name_address, name_member
from ray_paxos.testing.violation import Violation, expect
from ray_paxos.testing.votes import VoteLedger

ACCEPTOR_ANSWERS = (Promise, Accepted, HeartbeatConfirmed, Nack, BelowFloor, VoteFloorRaised)


class Checker:
    """Judges one run.

    Attributes:
        coverage: What the run has seen so far.
        logs: By group, what was applied.
        leases: By group, who may believe in a lease.
        damage: By member, which of its files were damaged on purpose.
        disks: By member, what its learner relies on.
    """

    def __init__(
        self,
        genesis: Genesis,
        members: int,
        scheduler: Scheduler,
        drift_ppm: int,
        registry: MachineRegistry,
    ) -> None:
        """Start before anything happened.

        Args:
            genesis: Of the cluster.
            members: How many there are, those that join included.
            scheduler: True time.
            drift_ppm: By how much any machine's clock may be fast or slow.
            registry: Which machines can be mounted.
        """
        self.coverage = SeedCoverage()
        self._scheduler = scheduler
        self._handling: Message | None = None
        self.ledgers = {g.group: VoteLedger(g.group, g.configuration) for g in genesis.groups}
        self.logs = {
            g.group: LogWatch(g.group, self.ledgers[g.group], registry) for g in genesis.groups
        }
        self.leases = {
            g.group: LeaseWatch(g.group, self.ledgers[g.group], drift_ppm, scheduler, self.coverage)
            for g in genesis.groups
        }
        self.reads = {
            g.group: ReadWatch(g.group, self.logs[g.group], drift_ppm, scheduler)
            for g in genesis.groups
        }
        self.recordings = {g.group: GroupRecording(g.group) for g in genesis.groups}
        member_ids = range(1, members + 1)
        self.acceptors = {m: AcceptorWatch(m) for m in member_ids}
        self.segments = {m: SegmentWatch(m) for m in member_ids}
        self.damage: dict[int, MemberDamage] = {}
        self.disks: dict[int, DiskWatch] = {}
        self._switched: list[tuple[int, DiskWatch]] = []

    # Processes.

    def opened(self, address: Address, role: Role, clock: MachineClock) -> None:
        """A process has opened its folder, and reads this clock."""
        if isinstance(role, GroupRouter):
            for group, inner in role.roles.items():
                self.group_opened(address, group, inner, clock)

    def group_opened(self, address: Address, group: int, role: Role, clock: MachineClock) -> None:
        """A process has begun to play a role in a group."""
        self.leases[group].opened(address, role, clock)

    def ended(self, address: Address) -> None:
        """A process was killed, or stopped itself."""
        for lease in self.leases.values():
            lease.ended(address)

    def stepped(self, address: Address) -> None:
        """A process has handled something, and all that it says has left."""
        self._handling = None
        for group, disk in self._switched:
            self.logs[group].state_loaded(disk.member_id, disk.learners[group].host)
        self._switched = []
        if address.role in (RoleName.PROPOSER, RoleName.LEARNER):
            for lease in self.leases.values():
                lease.stepped(address)

    # Storage.

    def acceptor_opened(self, member_id: int, state: AcceptorState) -> None:
        """An acceptor begins a life with what it found."""
        self.acceptors[member_id].opened(state)
        for group, votes in state.groups.items():
            self._check_floor(group, member_id, votes.floor)

    def watch_disk(self, member_id: int, disk: SimulatedDisk) -> None:
        """This is a member's disk."""
        self.damage[member_id] = MemberDamage(disk)
        self.disks[member_id] = DiskWatch(
            member_id, list(self.logs), self.damage[member_id], self.segments[member_id]
        )

    def learner_opening(self, member_id: int) -> None:
        """A learner is about to look at what is on its disk."""
        self.disks[member_id].opening()

    def learner_opened(self, member_id: int, group: int, learner: Learner) -> None:
        """A learner begins a life with what it found, and has applied it."""
        self.disks[member_id].opened(group, learner)
        self.logs[group].opened(member_id, learner.status().point)
        if not learner.stopped:
            self.logs[group].state_loaded(member_id, learner.host)

    def writing(self, process: Address, records: Sequence[Record]) -> None:
        """A process is about to hand records to its store."""
        if isinstance(self._handling, Query | QueryMany | QuorumRead | ReadIndex):
            raise Violation("R8", f"{name_address(process)} writes something for a read")
        if process.role is RoleName.ACCEPTOR:
            self.acceptors[process.member_id].writing(records)
            for record in records:
                if isinstance(record, GroupRemoved):
                    self._removing(process.member_id, record)

    def _removing(self, member_id: int, record: GroupRemoved) -> None:
        """A member's acceptor is about to forget a replica, which must not vote any more."""
        group, replica_id = record.group, record.replica_id
        if group not in self.ledgers:
            return
        self.leases[group].removed(member_id)
        known = self.ledgers[group].configurations
        if Voter(member_id, replica_id) in known.current.voters:
            what = f"{name_member(member_id)} forgets {replica_id}, as which it votes"
            raise Violation("groups", f"group {group}: {what}")
        voted = self.acceptors[member_id].replica(group) == replica_id
        config_id = known.current.config_id
        if voted and not any(
            is_durable_at_majority(group, later.config_id, self.segments, later)
            for later in known.known()
            if later.voter(member_id) != Voter(member_id, replica_id)
            and later.config_id > known.given_at(replica_id)
        ):
            what = f"{name_member(member_id)} forgets {replica_id}; no majority holds {config_id}"
            raise Violation("groups", f"group {group}: {what}")

    def wrote(self, process: Address, records: Sequence[Record]) -> None:
        """A process handed records to its store."""
        if process.role is RoleName.ACCEPTOR:
            self.acceptors[process.member_id].wrote(records)
        elif process.role is RoleName.LEARNER:
            self.segments[process.member_id].wrote(records)
            for record in records:
                if isinstance(record, PartTaken):
                    self.coverage.seen[PART_TAKEN] += 1
                elif isinstance(record, PartLeft):
                    self._left(process.member_id, record)

    def parts_found(self, member_id: int, parts: Parts) -> None:
        """A learner opens with these parts: what it has left may be written, and not told of."""
        for group in parts.tombstones.keys() - parts.parts.keys():
            self.segments[member_id].left(group)

    def _left(self, member_id: int, record: PartLeft) -> None:
        """A member has the group no more, and what it had of it goes."""
        group = record.group
        configuration = self.ledgers[group].configurations.current
        named = configuration.voter(member_id) or configuration.follower(member_id)
        # It may have been added again meanwhile, as a later replica: an order for that one comes.
        if named is not None and named.replica_id <= record.replica_id:
            what = f"{name_member(member_id)} leaves, and is named"
            raise Violation("groups", f"group {group}: {what}")
        self.coverage.seen[PART_LEFT] += 1
        self.segments[member_id].left(group)
        self.logs[group].applied_through.pop(member_id, None)
        for role in (RoleName.LEARNER, RoleName.PROPOSER):
            self.leases[group].ended(Address(member_id, role))

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
        promise = self._handling = envelope.message
        if envelope.group in self.leases:
            self.leases[envelope.group].receiving(to, envelope)
        if isinstance(promise, Promise) and promise.ballot.member_id == to.member_id:
            self.ledgers[envelope.group].promises.promised(envelope.sender.member_id, promise)

    def sending(self, sender: Address, to: Address, life: int, envelope: Envelope) -> None:
        """A process's message leaves now."""
        group, message = envelope.group, envelope.message
        if group in self.leases:
            told = self.reads[group].acknowledged_through
            self.leases[group].sending(sender, message, told)
        if isinstance(message, ACCEPTOR_ANSWERS):
            self.acceptors[sender.member_id].sending(group, message, envelope.replica_id)
            if isinstance(message, Accepted) and group in self.ledgers:
                voter = Voter(sender.member_id, envelope.replica_id)
                self.ledgers[group].accepted(
                    message.instance_id, message.ballot, voter, envelope.config_id
                )
            elif isinstance(message, Promise | BelowFloor):
                if isinstance(message, Promise) and message.next_instance is not None:
                    self.coverage.seen[PAGES] += 1
                self._check_floor(group, sender.member_id, message.floor)
        elif isinstance(message, Accept | Prepare | Heartbeat):
            ledger = self.ledgers[group]
            ledger.used(
                message.ballot, envelope.config_id, sender.member_id, envelope.incarnation, life
            )
            if isinstance(message, Accept):
                if isinstance(self._handling, ReadIndex):
                    what = f"{name_address(sender)} proposes something for a read"
                    raise Violation("R8", f"group {group}: {what}")
                ledger.proposed(message.instance_id, message.ballot, message.value)
            elif isinstance(message, Heartbeat):
                self._check_claims(sender, envelope, message)
        elif isinstance(message, Chosen | LearnReply):
            for chosen in message.values:
                self.ledgers[group].claimed(chosen.instance_id, chosen.value, name_address(sender))
            if isinstance(message, Chosen):
                self._check_claims(sender, envelope, message)
            else:
                self.ledgers[group].claimed_through(message.learned_through, name_address(sender))
        elif isinstance(message, LearnerStatus):
            wrong = status_contradicts(message)
            if wrong:
                raise Violation("R6", f"group {group}: {name_address(sender)} {wrong}")
            self.ledgers[group].claimed_through(message.learned_through, name_address(sender))
            self.segments[sender.member_id].vouching(group, message.durable_through)
            self.logs[group].told(sender.member_id, message)
        elif to.role is RoleName.CLIENT:
            self._answering(group, sender, to, message)

    def _answering(self, group: int, sender: Address, client: Address, message: Message) -> None:
        match message:
            case QueryResult(request_id=request_id) | QueryAnswers(request_id=request_id):
                self.reads[group].served(client, request_id)
            case ReadIndexConfirmed():
                self.coverage.seen[INDEX_BY_ROUND] += not self.leases[group].believes(sender)
            case Refused(code=RefusalCode.OVERLOADED):
                self.coverage.seen[OVERLOADED] += 1
            case QueryFailed(problem=QueryProblem.OVERLOADED):
                self.coverage.seen[READ_OVERLOADED] += 1
            case _:
                pass

    def _check_claims(
        self, sender: Address, envelope: Envelope, message: Heartbeat | Chosen
    ) -> None:
        by, group, told = name_address(sender), envelope.group, message.majority_durable
        self.ledgers[group].claimed_through(message.chosen_through, by)
        configuration = self.ledgers[group].configurations[envelope.config_id]
        if not is_durable_at_majority(group, told, self.segments, configuration):
            what = f"{by} says that a majority is durable through {told}; it is not"
            raise Violation("floor", f"group {group}: {what}")

    def _check_floor(self, group: int, member_id: int, floor: int) -> None:
        if floor <= 1:
            return
        configurations = self.ledgers[group].configurations.known()
        wrong = floor_uncovered(
            group, floor, self.segments[member_id], self.segments, configurations
        )
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
            case CheckpointPublished() | CheckpointInstalled():
                self._on_checkpoint(process.member_id, event)
            case ChunkDiffered():
                raise Violation("R4", f"{name_address(process)} was given another log: {event}")
            case CheckpointDamaged() | SegmentDamageFound():
                self.disks[process.member_id].damage_found(event)
                self.coverage.seen[DAMAGE] += 1
            case CaughtUp(group=group):
                self.disks[process.member_id].caught_up(group, self._handling)
            case ChunksConfirmed(group=group):
                self.disks[process.member_id].confirmed(group, self._handling)
            case LogCutOff(group=group):
                self.disks[process.member_id].log_cut(group)
            case MasterStarted(group=group, ballot=ballot, instance_id=instance_id):
                self.logs[group].master_started(process.member_id, ballot, instance_id)
            case ConfigurationLearned(group=group, configuration=configuration):
                known = self.ledgers[group].configurations[configuration.config_id]
                if configuration != known:
                    what = f"{name_address(process)} follows {configuration}; it is {known}"
                    raise Violation("R5", f"group {group}: {what}")
            case InvariantBroken(what=what):
                raise Violation("invariant", f"{name_address(process)}: {what}")
            case ApplyingStopped(why=why):
                raise Violation("R12", f"{name_address(process)} stopped applying: {why}")
            case _:
                pass

    def _on_checkpoint(
        self, member_id: int, event: CheckpointPublished | CheckpointInstalled
    ) -> None:
        point = ChainPoint(event.instance_id, event.chain, event.result_chain)
        if isinstance(event, CheckpointPublished):
            self.logs[event.group].checkpointed(member_id, point)
        else:
            self.logs[event.group].installed(member_id, point)
            self.segments[member_id].installed(event.group, event.instance_id)
            self.disks[member_id].installed(event.group, event.instance_id)
            self._switched.append((event.group, self.disks[member_id]))

    # Clients.

    def session_opened(self, group: int, session: SessionId) -> None:
        """A client was given its session."""
        self.reads[group].acknowledged(session.instance_id)

    def called(self, operation: Operation) -> None:
        """A client is about to send a command for the first time."""
        self.recordings[operation.group].called(operation)

    def acknowledged(self, operation: Operation) -> None:
        """A client was told what became of a command (R7)."""
        self.coverage.commands += 1
        self.recordings[operation.group].acknowledged(operation)
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
        self.reads[operation.group].acknowledged(outcome.instance_id)

    def acknowledged_at_its_place(self, operation: Operation) -> None:
        """As `acknowledged`, by a client that does not tell under which number."""
        outcome = operation.outcome
        assert outcome is not None, "it is acknowledged"
        reference = self.logs[operation.group].reference
        place = reference.places.get((outcome.instance_id, outcome.index))
        if place is None:
            what = f"{operation.command!r} is acknowledged at {outcome}, where nothing was applied"
            raise Violation("R7", f"group {operation.group}: {what}")
        operation.session, operation.number = place
        self.acknowledged(operation)

    def denied(self, operation: Operation) -> None:
        """A client was told that its command is not applied, and never will be (R7)."""
        self.coverage.seen[DENIED] += 1
        self.recordings[operation.group].denied(operation)
        self.logs[operation.group].denied(operation.command)

    def unknown(self) -> None:
        """A client was told that the outcome of some commands is unknown."""
        self.coverage.seen[UNKNOWN] += 1

    def withdrawn(self) -> None:
        """A client was told that its withdrawal came before its command."""
        self.coverage.seen[WITHDRAWN] += 1

    def read_called(self, read: Read) -> None:
        """A client is about to send a read for the first time."""
        self.reads[read.group].called(read)
        self.recordings[read.group].read_called(read, self._scheduler.now_ns)

    def read_answered(self, read: Read, answer: QueryResult) -> None:
        """A client's read was answered: with the state as of the instance it names (R8)."""
        self.coverage.seen[name_read(read)] += 1
        self.reads[read.group].answered(read, answer)
        self.recordings[read.group].read_answered(read, answer, self._scheduler.now_ns)

    def check_histories(self) -> None:
        """In the end: what clients saw of each key can be put into one order."""
        for recording in self.recordings.values():
            self.coverage.recorded += recording.check()
