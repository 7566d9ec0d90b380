"""The learner of member 2, its machines scripted, and short ways to play everybody it talks to."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.checkpoint_messages import ChainReply, ChainRequest
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import CheckpointInstalled
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import (
    ChainPoint,
    Chosen,
    ChosenValue,
    LearnerStatus,
    LearnReply,
    LearnRequest,
)
from ray_paxos.core.messages import (
    Address,
    Heartbeat,
    Message,
)
from ray_paxos.core.records import Record, SealedInstance, SealSegment
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.tasks import CheckpointLoaded, Outcome, Task
from ray_paxos.core.values import (
    EMPTY_CHAIN,
    MasterRecord,
    Value,
    extend_chain,
    value_hash,
)
from ray_paxos.errors import ApplyStoppedError, QueryError
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from tests.unit.core_helpers import (
    CONFIGURATION,
    GROUP,
    MS,
    POINT,
    ballot,
    chosen,
    envelope,
    learner_of,
    proposer_of,
    with_members,
)

ME = 2
SETTINGS = LearnerSettings(
    seal_bytes=1_000,
    seal_age_ns=1_000 * MS,
    memory_bytes=300,
    pending_bytes_max=5_000,
    catch_up_bytes_max=7_000,
    catch_up_retry_ns=300 * MS,
)


class ScriptedHost(MachineHost):
    """Notes what is applied; fails, or returns something else, where the test wants it to."""

    def __init__(
        self,
        *,
        fails_at: int = 0,
        differs_at: int = 0,
        result_bytes: int = 0,
        applied_through: int = 0,
    ) -> None:
        super().__init__(MachineRegistry(), group=GROUP)
        self.base = applied_through
        self.result_bytes = result_bytes
        self.values: list[Value] = []
        self.fails_at = fails_at
        self.differs_at = differs_at

    @property
    def through(self) -> int:
        return self.base + len(self.values)

    def apply(self, instance_id: int, value: Value) -> tuple[EntryResult, ...]:
        assert instance_id == self.through + 1, "in order, once each"
        if instance_id == self.fails_at:
            raise ApplyStoppedError(GROUP, "log", instance_id, "out of paper")
        self.values.append(value)
        self.log_time_ns = max(self.log_time_ns, value.log_time_ns)
        for entry in value.entries:
            if isinstance(entry, MasterRecord):
                self.master, self.master_version = entry, instance_id
        result = b"other" if instance_id == self.differs_at else b"%d" % instance_id
        result = result.ljust(self.result_bytes, b".")
        return tuple(
            EntryResult(instance_id, index, (result,), {}) for index, _ in enumerate(value.entries)
        )

    def query(self, machine: str, request: bytes) -> bytes:
        if machine != "log":
            raise QueryError(f"no machine {machine!r}")
        return b"%d applied" % len(self.values)


def chain_through(last: int) -> bytes:
    """The chain after the values that `chosen` makes."""
    chain = EMPTY_CHAIN
    for instance_id in range(1, last + 1):
        chain = extend_chain(chain, value_hash(chosen(instance_id).value))
    return chain


def cut_at(instance_id: int, *, chain: bytes | None = None) -> Cut:
    chain = chain or chain_through(instance_id)
    return Cut(instance_id, chain, b"results".ljust(16), ballot(2, 3), CONFIGURATION)


def loaded(instance_id: int) -> CheckpointLoaded:
    return CheckpointLoaded(cut_at(instance_id), ScriptedHost(applied_through=instance_id))


class LearnerBench:
    """Time, records and durability are in the test's hands."""

    def __init__(
        self,
        *,
        host: ScriptedHost | None = None,
        settings: LearnerSettings = SETTINGS,
        replica_id: int = 12,
        configuration: Configuration = CONFIGURATION,
        ordered: Configuration | None = None,
        members: tuple[int, ...] = (1, 2, 3),
        sealed: Iterable[SealedInstance] = (),
        segments: Sequence[tuple[int, int, int]] = (),
        base: Cut | None = None,
        problems: Sequence[str] = (),
        incarnation: int = 1,
        now_ns: int = 0,
    ) -> None:
        self.now_ns = now_ns
        self.unsynced: list[Record] = []
        self.tasks: list[Task] = []
        self.asked: tuple[Address, LearnRequest] | None = None
        self.sealed: list[SealedInstance] = list(sealed)
        self.durable_through = base.instance_id if base is not None else 0
        self.durable_through += len(self.sealed)
        configuration = with_members(configuration, members, None if replica_id else ME)
        self.learner = Learner(
            group=GROUP,
            member_id=ME,
            configuration=configuration,
            ordered=ordered,
            host=host or ScriptedHost(applied_through=base.instance_id if base else 0),
            base=base,
            settings=settings,
            random=random.Random(1),
            incarnation=incarnation,
            now_ns=now_ns,
            sealed=self.sealed,
            segments=lambda: segments,
            problems=lambda: problems,
        )

    def _note(self, effects: Effects) -> Effects:
        assert effects.sends_after_sync == [], "a learner's word rests on what was durable before"
        self.tasks += effects.tasks
        for send in effects.sends_now:
            if isinstance(send.message, LearnRequest):
                self.asked = send.to, send.message
        self.unsynced += effects.records
        for event in effects.events:
            if isinstance(event, CheckpointInstalled):
                assert not self.unsynced, "nothing is on its way into the log that is left behind"
                self.durable_through = event.instance_id
                self.sealed = []
        status = self.learner.status()
        assert status.durable_through == self.durable_through, "durable is what was synced"
        assert status.applied_through == self.host.through <= status.learned_through
        assert status.durable_through <= status.learned_through
        return effects

    def receive(
        self, sender: Address, message: Message, *, incarnation: int = 1, config_id: int = 0
    ) -> Effects:
        received = envelope(sender, message, incarnation=incarnation, config_id=config_id)
        return self._note(self.learner.handle(received, self.now_ns))

    def tick(self, milliseconds: float = 0) -> Effects:
        self.now_ns += int(milliseconds * MS)
        effects = self._note(self.learner.on_deadline(self.now_ns))
        deadline_ns = self.learner.deadline_ns
        assert deadline_ns is None or deadline_ns > self.now_ns, "called in a circle"
        return effects

    def sync(self) -> Effects:
        """Everything emitted so far becomes durable."""
        records, self.unsynced = self.unsynced, []
        for record in records:
            if isinstance(record, SealSegment):
                assert record.group == GROUP
                for instance in record.instances:
                    assert instance.chosen.instance_id == self.durable_through + 1
                    self.sealed.append(instance)
                    self.durable_through += 1
        return self._note(self.learner.on_durable(records, self.now_ns))

    def told(
        self,
        *values: ChosenValue,
        of: Address | None = None,
        through: int = 0,
        durable: int = 0,
    ) -> Effects:
        """Told by a proposer what is chosen."""
        return self.receive(of or proposer_of(1), Chosen(values, through, durable))

    def learns(self, first: int, last: int, *, at: Ballot | None = None) -> Effects:
        return self.told(*(chosen(i, at) for i in range(first, last + 1)))

    def beat(
        self,
        *,
        through: int = 0,
        durable: int = 0,
        point: ChainPoint = POINT,
        of: Address | None = None,
        config_id: int = 0,
    ) -> Effects:
        heartbeat = Heartbeat(ballot(1), 1, True, through, durable, point)
        return self.receive(of or proposer_of(1), heartbeat, config_id=config_id)

    def replies(
        self,
        *values: ChosenValue,
        first: int,
        learned: int,
        memory_floor: int = 1,
        log_floor: int = 1,
        wait_ms: int = 0,
        of: Address | None = None,
    ) -> Effects:
        """Another member gives some of its log; where a second word is asked for, it agrees."""
        effects = self.gives(
            *values,
            first=first,
            learned=learned,
            memory_floor=memory_floor,
            log_floor=log_floor,
            wait_ms=wait_ms,
            of=of,
        )
        for send in list(effects.sends_now):
            if isinstance(send.message, ChainRequest):
                end = send.message.instance_id
                reply = ChainReply(end, self.chain_after(values), end, 1)
                effects.extend(self.receive(send.to, reply))
        return effects

    def gives(
        self,
        *values: ChosenValue,
        first: int,
        learned: int,
        memory_floor: int = 1,
        log_floor: int = 1,
        wait_ms: int = 0,
        of: Address | None = None,
    ) -> Effects:
        """Another member gives some of its log, and nobody says anything to it yet."""
        reply = LearnReply(first, values, learned, memory_floor, log_floor, wait_ms)
        return self.receive(of or learner_of(1), reply)

    def chain_after(self, values: Iterable[ChosenValue]) -> bytes:
        """The chain after values that go on from what is learned here."""
        point = self.status.point
        assert point.instance_id == self.status.learned_through, "all of it applied, or stopped"
        chain = point.chain
        for value in values:
            if value.instance_id > point.instance_id:
                chain = extend_chain(chain, value_hash(value.value))
        return chain

    def comes_to(self, outcome: Outcome, task: Task | None = None) -> Effects:
        """A task (the oldest one) has come to this."""
        if task is None:
            task = self.tasks.pop(0)
        else:
            self.tasks.remove(task)
        return self._note(self.learner.on_outcome(task, outcome, self.now_ns))

    @property
    def host(self) -> ScriptedHost:
        host = self.learner.host
        assert isinstance(host, ScriptedHost)
        return host

    @property
    def status(self) -> LearnerStatus:
        return self.learner.status()
