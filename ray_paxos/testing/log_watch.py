"""What learners apply: in order, once, the chosen value, with the same results everywhere."""

from __future__ import annotations

import copy

import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.events import InstanceApplied
from ray_paxos.core.learner_messages import (
    ChainPoint,
    LearnerStatus,
)
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    CommandBatch,
    MasterRecord,
    decode_value,
    extend_chain,
    value_hash,
)
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.kv import Get, decode_result, encode_get
from ray_paxos.machines.log import decode_page, encode_lines
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.testing.reference import ReferenceGroup
from ray_paxos.testing.trace import name_member
from ray_paxos.testing.violation import Violation, expect
from ray_paxos.testing.votes import VoteLedger
from ray_paxos.testing.workload import KEYS, KV_MACHINE, LOG_MACHINE

_decode_get = msgspec.msgpack.Decoder(Get).decode


class LogWatch:
    """Follows all members' learners of one group.

    Invariant: `reference` has executed exactly the instances that any member has ever applied.

    Attributes:
        applied_through: By member, in its present life.
        reference: The plain execution of the log.
    """

    def __init__(self, group: int, ledger: VoteLedger, registry: MachineRegistry) -> None:
        """Start with an empty log; the registry is the members'."""
        self.applied_through: dict[int, int] = {}
        self.reference = ReferenceGroup()
        self._group = group
        self._ledger = ledger
        self._chains: list[ChainPoint] = [ChainPoint(0, EMPTY_CHAIN, EMPTY_CHAIN)]
        self._log_times = [0]
        # Never saved, never loaded: what a checkpoint's state is compared with.
        self._host = MachineHost(registry, group=group, configuration=ledger.configurations.current)
        self._digests = [self._host.digest()]
        self._masters: dict[int, Ballot] = {}
        self._denied: set[bytes] = set()

    def opened(self, member_id: int, point: ChainPoint) -> None:
        """A learner's new life has applied what it found, up to `point`."""
        self.applied_through[member_id] = point.instance_id
        what = f"{name_member(member_id)} opened through {point.instance_id}"
        if point.instance_id >= len(self._chains):
            raise Violation("R6", self._at(f"{what}, which nobody had applied"))
        if self._chains[point.instance_id] != point:
            raise Violation("R6", self._at(f"{what}, with other chains than were applied"))

    def checkpointed(self, member_id: int, point: ChainPoint) -> None:
        """A checkpoint was published, or a learner goes on from one."""
        what = f"{name_member(member_id)} has a checkpoint of {point.instance_id}"
        if point.instance_id >= len(self._chains):
            raise Violation("R6", self._at(f"{what}, which nobody had applied"))
        if self._chains[point.instance_id] != point:
            raise Violation("R6", self._at(f"{what}, with other chains than were applied"))

    def installed(self, member_id: int, point: ChainPoint) -> None:
        """A learner goes on from a checkpoint, in the middle of its life."""
        self.checkpointed(member_id, point)
        before = self.applied_through.get(member_id, 0)
        if point.instance_id <= before:
            what = f"{name_member(member_id)} went back from {before} to {point.instance_id}"
            raise Violation("R6", self._at(what))
        self.applied_through[member_id] = point.instance_id

    def state_loaded(self, member_id: int, host: MachineHost) -> None:
        """A member goes on from what it has loaded: machines and sessions must be as of there."""
        at = host.applied_through
        if at >= len(self._digests) or host.digest() != self._digests[at]:
            what = f"{name_member(member_id)} goes on from a state that is not that of {at}"
            raise Violation("R6", self._at(what))

    def applied(self, member_id: int, event: InstanceApplied) -> None:
        """A learner applied an instance."""
        instance_id = event.instance_id
        member = name_member(member_id)
        before = self.applied_through.get(member_id, 0)
        if instance_id != before + 1:
            raise Violation("R6", self._at(f"{member} applied {instance_id} after {before}"))
        self.applied_through[member_id] = instance_id
        self._ledger.claimed(instance_id, event.value, f"{member}'s learner")
        if instance_id == len(self._chains):
            self._apply_first(event)
        elif self._chains[instance_id].result_chain != event.result_chain:
            what = f"{member} has other results at {instance_id} than the first to apply it"
            raise Violation("R6", self._at(what))

    def _apply_first(self, event: InstanceApplied) -> None:
        instance_id = event.instance_id
        value = decode_value(event.value)
        for entry in value.entries:
            if isinstance(entry, MasterRecord):
                self._masters[instance_id] = entry.ballot
        chain = extend_chain(self._chains[-1].chain, value_hash(event.value))
        self._chains.append(ChainPoint(instance_id, chain, event.result_chain))
        self.reference.apply(instance_id, value)
        self._host.apply(instance_id, value)
        self._digests.append(self._host.digest())
        for entry in value.entries:
            if isinstance(entry, CommandBatch):
                self._check_denied(self._denied.intersection(entry.commands))
        self._log_times.append(self.reference.log_time_ns)

    def denied(self, command: bytes) -> None:
        """A client was told that a command of its own is not applied, and never will be (R7)."""
        self._denied.add(command)
        self._check_denied({command})

    def _check_denied(self, commands: set[bytes]) -> None:
        wrong = commands & self.reference.applied
        if wrong:
            what = f"{min(wrong)!r} is applied, and its client was told that it never will be"
            raise Violation("R7", self._at(what))

    def told(self, member_id: int, status: LearnerStatus) -> None:
        """A learner says how far it is: the chains and the log time there must be the log's."""
        if status.stopped:
            return
        at = status.applied_through
        if at >= len(self._chains) or self._chains[at] != status.point:
            what = f"{name_member(member_id)} tells {status.point} for {at}"
            raise Violation("R6", self._at(what))
        if self._log_times[at] != status.log_time_ns:
            what = f"{name_member(member_id)} has the log time {status.log_time_ns} at {at}, "
            raise Violation("R6", self._at(what + f"it is {self._log_times[at]}"))

    def master_started(self, member_id: int, ballot: Ballot, instance_id: int) -> None:
        """A proposer serves: its own master record must be applied at that instance (R5)."""
        found = self._masters.get(instance_id)
        member = name_member(member_id)
        expect(
            found == ballot and ballot.member_id == member_id,
            "R5",
            self._at(f"{member} serves at {ballot}; the master record at {instance_id}: {found}"),
        )

    def answer(
        self, machine: str, request: bytes, instance_id: int, result: bytes
    ) -> tuple[object, object]:
        """What a read returned, and what it should have, as of an instance."""
        if machine == LOG_MACHINE:
            page, count = decode_page(result), self.reference.lines_at(instance_id)
            if not page.lines:
                return page.length, count
            return list(page.lines), self.reference.lines[:count]
        key = _decode_get(request).key
        return decode_result(result), self.reference.key_at(key, instance_id)

    def query(self, machine: str, request: bytes) -> bytes:
        """What machines answer that have applied all that any member has; as of `MachineHost`."""
        return self._host.query(machine, request)

    def machine(self, name: str) -> StateMachine:
        """A copy of one of them."""
        machines = {spec.name: machine for spec, machine in self._host.machines}
        return copy.deepcopy(machines[name])

    def converged(self, member_id: int, host: MachineHost) -> None:
        """In the end: the machines of a member hold what the plain execution holds."""
        at = self.reference.applied_through
        mounted = {spec.name for spec in host.mounted}
        if KV_MACHINE in mounted:
            for key in KEYS:
                found = decode_result(host.query(KV_MACHINE, encode_get(key)))
                expected = self.reference.key_at(key, at)
                if found != expected:
                    what = f"{name_member(member_id)} has {found} under {key}, it is {expected}"
                    raise Violation("R6", self._at(what))
        if LOG_MACHINE in mounted:
            lines = decode_page(host.query(LOG_MACHINE, encode_lines())).lines
            if list(lines) != self.reference.lines:
                raise Violation("R6", self._at(f"{name_member(member_id)} has other lines"))

    def _at(self, what: str) -> str:
        return f"group {self._group}: {what}"
