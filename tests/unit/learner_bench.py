"""The learner of member 2, its machines scripted, and short ways to play everybody it talks to."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.effects import Effects
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner import Learner
from ray_paxos.core.messages import (
    Address,
    ChainPoint,
    Chosen,
    ChosenValue,
    Heartbeat,
    LearnerStatus,
    LearnReply,
    Message,
)
from ray_paxos.core.records import Record, SealedInstance, SealSegment
from ray_paxos.core.results import EntryResult
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.core.values import MasterRecord, Value
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

    def __init__(self, *, fails_at: int = 0, differs_at: int = 0, result_bytes: int = 0) -> None:
        super().__init__(MachineRegistry(), group=GROUP)
        self.result_bytes = result_bytes
        self.values: list[Value] = []
        self.fails_at = fails_at
        self.differs_at = differs_at

    def apply(self, instance_id: int, value: Value) -> tuple[EntryResult, ...]:
        assert instance_id == len(self.values) + 1, "in order, once each"
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


class LearnerBench:
    """Time, records and durability are in the test's hands."""

    def __init__(
        self,
        *,
        host: ScriptedHost | None = None,
        settings: LearnerSettings = SETTINGS,
        replica_id: int = 12,
        configuration: Configuration = CONFIGURATION,
        members: tuple[int, ...] = (1, 2, 3),
        sealed: Iterable[SealedInstance] = (),
        segments: Sequence[tuple[int, int, int]] = (),
        incarnation: int = 1,
        now_ns: int = 0,
    ) -> None:
        self.now_ns = now_ns
        self.host = host or ScriptedHost()
        self.unsynced: list[Record] = []
        self.sealed: list[SealedInstance] = list(sealed)
        self.learner = Learner(
            group=GROUP,
            member_id=ME,
            replica_id=replica_id,
            configuration=configuration,
            members=members,
            host=self.host,
            settings=settings,
            random=random.Random(1),
            incarnation=incarnation,
            now_ns=now_ns,
            sealed=self.sealed,
            segments=segments,
        )

    def _note(self, effects: Effects) -> Effects:
        assert effects.sends_after_sync == [], "a learner's word rests on what was durable before"
        assert effects.reads == []
        self.unsynced += effects.records
        status = self.learner.status()
        assert status.durable_through == len(self.sealed), "durable is what was synced"
        assert status.applied_through == len(self.host.values) <= status.learned_through
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
                    assert instance.chosen.instance_id == len(self.sealed) + 1
                    self.sealed.append(instance)
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
        of: Address | None = None,
    ) -> Effects:
        reply = LearnReply(first, values, learned, memory_floor)
        return self.receive(of or learner_of(1), reply)

    @property
    def status(self) -> LearnerStatus:
        return self.learner.status()
