"""Checkpoints from sealed segments: a copy of its own that goes on, and never one that differs."""

from __future__ import annotations

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import GENESIS_CONFIG_ID, Configuration, Voter
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.results import encode_results
from ray_paxos.core.tasks import CheckpointMade, SavedByLearner
from ray_paxos.core.values import EMPTY_CHAIN, encode_value, extend_chain, value_hash
from ray_paxos.errors import CheckpointError, DamageError, PaxosError, StorageError
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.kv_machine import KeyValueMachine
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoint_maker import CheckpointMaker
from ray_paxos.storage.checkpoints import published, verify_checkpoint
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segments import SegmentPlace
from ray_paxos.testing.codec import PlainCodec
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.checkpoint_support import CONFIGURATION as CONFIGURATION
from tests.storage.checkpoint_support import (
    DIGESTS,
    GENESIS,
    GROUP,
    REGISTRY,
    Nested,
    Shelf,
    Silent,
    place_on,
    values,
)

LOG = f"learner/log/group={GROUP}"
FOLDER = f"checkpointer/group={GROUP}"
BALLOTS = [Ballot(3 + n // 4, 11, 1) for n in range(12)]


def sealed_log() -> list[SealedInstance]:
    """What a learner that applied all of it seals."""
    host = MachineHost(REGISTRY, group=GROUP)
    chain, results = EMPTY_CHAIN, EMPTY_CHAIN
    sealed = []
    for instance_id, value in enumerate(values(), 1):
        raw = encode_value(value)
        chain = extend_chain(chain, value_hash(raw))
        results = extend_chain(results, encode_results(host.apply(instance_id, value)))
        chosen = ChosenValue(instance_id, BALLOTS[instance_id - 1], raw)
        sealed.append(SealedInstance(chosen, chain, results))
    return sealed


SEALED = sealed_log()


class Bench:
    """A learner's folder and a checkpointer's, with the log sealed in segments of these ends."""

    def __init__(self, *ends: int, log: list[SealedInstance] | None = None) -> None:
        self.log = log or SEALED
        self.disk = SimulatedDisk()
        for folder in (LOG, FOLDER):
            self.disk.make_folder(folder)
        codec = PlainCodec(block_bytes=100)
        self.place = SegmentPlace(self.disk, codec, GENESIS, GROUP, LOG, FOLDER)
        self.segments = SegmentFolder.open(self.place)
        self.seal(*ends)
        self.restart()

    def restart(self, registry: MachineRegistry = REGISTRY) -> None:
        self.checkpoints = CheckpointFolder.open(place_on(self.disk))
        self.maker = CheckpointMaker(self.place, self.checkpoints, registry, CONFIGURATION)

    def seal(self, *ends: int) -> None:
        for end in ends:
            first = self.segments.reader.last
            self.segments.seal(SealSegment(GROUP, tuple(self.log[first:end])))
            self.segments.sync()

    def made(self, through: int) -> CheckpointMade:
        made = self.maker.make(through)
        assert isinstance(made, CheckpointMade)
        loaded = self.checkpoints.load(through, REGISTRY)
        assert loaded.cut == made.cut
        assert loaded.host.digest() == DIGESTS[through]
        return made


def test_it_is_made_of_the_segments_with_the_learners_chains() -> None:
    bench = Bench(4, 9)
    made = bench.made(9)
    cut = made.cut
    assert (cut.instance_id, cut.chain, cut.result_chain) == (
        9,
        SEALED[8].chain,
        SEALED[8].result_chain,
    )
    assert cut.ballot == max(BALLOTS[:9])
    assert cut.configuration == CONFIGURATION
    assert made.byte_count == verify_checkpoint(place_on(bench.disk), 9).byte_count > 0


def test_the_copy_goes_on_from_where_it_was() -> None:
    bench = Bench(4, 9)
    bench.made(4)
    # Were anything below 5 read again, it would be found damaged.
    bench.disk.flip_bit(f"{LOG}/{bench.disk.list(LOG)[0]}", 8 * 20)
    bench.made(9)
    bench.seal(12)
    bench.made(12)
    assert published(place_on(bench.disk)) == (4, 9, 12)


def test_a_new_process_goes_on_from_the_newest_checkpoint() -> None:
    bench = Bench(4, 9, 12)
    bench.made(4)
    bench.restart()
    bench.disk.flip_bit(f"{LOG}/{bench.disk.list(LOG)[0]}", 8 * 20)
    bench.made(9)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before() -> None:
    bench = Bench(4, 9, 12)
    bench.made(4)
    bench.made(9)
    bench.disk.flip_bit(f"{place_on(bench.disk).path(9)}/host.msgpack", 8 * 20)
    bench.restart()
    bench.made(12)


def test_one_log_that_was_cleaned_beyond_the_copy_begins_with_a_later_checkpoint() -> None:
    bench = Bench(4, 9, 12)
    bench.made(4)
    late = CheckpointMaker(bench.place, bench.checkpoints, REGISTRY, CONFIGURATION)
    assert isinstance(late.make(9), CheckpointMade)
    bench.segments.cut(10, None)
    assert bench.segments.reader.floor == 10
    bench.made(12)


def test_without_anything_that_covers_what_was_cleaned_none_is_made() -> None:
    bench = Bench(4, 9, 12)
    bench.segments.cut(5, None)
    with pytest.raises(DamageError, match=r"below instance 5 .*there is none"):
        bench.maker.make(12)
    assert published(place_on(bench.disk)) == ()


def test_a_copy_beyond_what_is_wanted_is_not_turned_back() -> None:
    bench = Bench(4, 9, 12)
    bench.made(12)
    bench.made(9)
    bench.made(12)


def test_the_same_again_is_the_same() -> None:
    bench = Bench(9)
    assert bench.made(9) == bench.made(9)


def test_an_instance_that_is_not_sealed_makes_none() -> None:
    bench = Bench(9)
    with pytest.raises(DamageError, match="instance 10"):
        bench.maker.make(10)
    bench.made(9)


class Wayward(Shelf):
    """Gives another result than it did at the learner."""

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        result = super().apply(command, context)
        return result if command != b"b" else b"another"


def test_of_a_machine_that_is_not_deterministic_no_checkpoint_is_made() -> None:
    bench = Bench(4, 9)
    bench.restart(MachineRegistry((*BUILT_IN, Wayward, Nested, Silent)))
    assert isinstance(bench.maker.make(4), CheckpointMade)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="another result"):
            bench.maker.make(9)
    assert published(place_on(bench.disk)) == (4,)
    bench.restart()
    bench.made(9)


class Flaky(Shelf):
    """Fails once, as for want of memory."""

    failures = 1

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if command == b"b" and Flaky.failures:
            Flaky.failures -= 1
            raise MemoryError
        return super().apply(command, context)


def test_a_machine_that_failed_once_begins_with_another_copy() -> None:
    bench = Bench(4, 9)
    bench.restart(MachineRegistry((*BUILT_IN, Flaky, Nested, Silent)))
    bench.maker.make(4)
    with pytest.raises(PaxosError):
        bench.maker.make(9)
    bench.made(9)


def test_after_applying_had_stopped_no_checkpoint_is_made() -> None:
    bare = [*SEALED[:4], *(SealedInstance(i.chosen, i.chain, None) for i in SEALED[4:])]
    bench = Bench(4, 9, log=bare)
    with pytest.raises(CheckpointError, match="applying had stopped before instance 9"):
        bench.maker.make(9)
    assert published(place_on(bench.disk)) == ()
    assert isinstance(bench.maker.make(4), CheckpointMade)


def test_a_repaired_segment_has_results_at_its_end_only_and_that_is_enough() -> None:
    bench = Bench(4, 9, 12)
    path = f"{LOG}/{bench.disk.list(LOG)[1]}"
    bench.disk.flip_bit(path, 8 * 20)
    with pytest.raises(DamageError):
        bench.maker.make(12)
    bench.segments.replace([instance.chosen for instance in SEALED[4:9]])
    bench.made(9)
    bench.made(12)


def test_a_value_that_nobody_can_read_makes_none() -> None:
    raw = b"\xc1 nonsense"
    chain = extend_chain(SEALED[3].chain, value_hash(raw))
    bad = SealedInstance(ChosenValue(5, BALLOTS[4], raw), chain, None)
    bench = Bench(5, log=[*SEALED[:4], bad])
    with pytest.raises(CheckpointError, match=r"instance 5 .*nothing that can be applied"):
        bench.maker.make(5)


def test_without_room_none_is_made_and_the_copy_is_no_worse() -> None:
    bench = Bench(4, 9)
    bench.made(4)
    bench.disk.set_capacity(sum(map(len, bench.disk.files().values())) + 50)
    with pytest.raises(StorageError):
        bench.maker.make(9)
    assert published(place_on(bench.disk)) == (4,)
    bench.disk.set_capacity(None)
    bench.made(9)


def but_not(kind: str) -> list[type[StateMachine]]:
    return [each for each in BUILT_IN if each.kind != kind]


class Vast(KeyValueMachine):
    is_saved_by_learner = True


def test_of_a_machine_that_may_not_be_held_twice_no_copy_is_held() -> None:
    bench = Bench(4, 9)
    bench.restart(MachineRegistry((Vast, *but_not("kv"), Shelf, Nested, Silent)))
    assert bench.maker.make(4) == SavedByLearner()
    assert bench.maker._host is None
    assert bench.maker.make(9) == SavedByLearner()
    assert published(place_on(bench.disk)) == ()


def test_the_configuration_of_the_group_is_in_it() -> None:
    bench = Bench(4)
    other = Configuration(GENESIS_CONFIG_ID, (Voter(11, 1),))
    maker = CheckpointMaker(bench.place, bench.checkpoints, REGISTRY, other)
    made = maker.make(4)
    assert isinstance(made, CheckpointMade)
    assert made.cut.configuration == other
