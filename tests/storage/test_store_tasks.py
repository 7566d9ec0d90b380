"""What stores do for tasks: each has its outcome, and one that fails stops nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import get_args

import msgspec
import pytest

from ray_paxos.core.checkpoint import Cut, Manifest, decode_manifest
from ray_paxos.core.genesis import SYSTEM_GROUP, GroupSpec
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.messages import (
    Address,
    RoleName,
)
from ray_paxos.core.parts import PartLeft
from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.results import encode_results
from ray_paxos.core.settings import CheckpointerSettings, LearnerSettings
from ray_paxos.core.tasks import (
    BeginTransfer,
    ChainRead,
    CheckpointLoaded,
    CheckpointMade,
    ChunkRead,
    CutLog,
    DropCheckpoint,
    DropSaved,
    FollowParts,
    LoadCheckpoint,
    LogCut,
    MakeCheckpoint,
    ManifestRead,
    MergeSegments,
    Outcome,
    PartsOpened,
    PublishMerged,
    PublishTransfer,
    ReadChain,
    ReadChunk,
    ReadManifest,
    ReadSegments,
    ReplaceSegment,
    SaveState,
    Scrub,
    Scrubbed,
    SegmentsRead,
    SetAsideCheckpoint,
    TakeSaved,
    Task,
    TaskDone,
    TaskFailed,
    TransferBegun,
    WriteChunk,
)
from ray_paxos.core.values import EMPTY_CHAIN, encode_value, extend_chain, value_hash
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.opening import OpenedRole, open_checkpointer, open_learner
from ray_paxos.storage.stores import INLINE_TASKS, SLOW_TASKS
from ray_paxos.testing.codec import PlainCodec, PlainTables
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.checkpoint_support import values
from tests.storage.support import BALLOT, GENESIS, MEMBER_ID, member_disk

GROUP = 1
READER = Address(12, RoleName.CHECKPOINTER)
SPEC: GroupSpec = next(spec for spec in GENESIS.groups if spec.group == GROUP)


VALUES = values()[1:5] * 3


def sealed_log() -> list[SealedInstance]:
    """Of the built-in machines alone: what asks for others is refused, the same on all members."""
    host = MachineHost(MachineRegistry(), group=GROUP)
    chain, results = EMPTY_CHAIN, EMPTY_CHAIN
    sealed = []
    for instance_id, value in enumerate(VALUES, 1):
        raw = encode_value(value)
        chain = extend_chain(chain, value_hash(raw))
        results = extend_chain(results, encode_results(host.apply(instance_id, value)))
        sealed.append(SealedInstance(ChosenValue(instance_id, BALLOT, raw), chain, results))
    return sealed


SEALED = sealed_log()
CHOSEN = [instance.chosen for instance in SEALED]


def learner(disk: SimulatedDisk) -> OpenedRole:
    return open_learner(
        disk,
        GENESIS,
        MEMBER_ID,
        settings=LearnerSettings(),
        codec=PlainCodec(),
        tables=PlainTables(),
        registry=MachineRegistry(),
        random=Random(1),
        now_ns=0,
    )


def checkpointer(disk: SimulatedDisk) -> OpenedRole:
    return open_checkpointer(
        disk,
        GENESIS,
        MEMBER_ID,
        settings=CheckpointerSettings(),
        codec=PlainCodec(),
        tables=PlainTables(),
        registry=MachineRegistry(),
        now_ns=0,
    )


class Member:
    """A learner and a checkpointer over one folder."""

    def __init__(self, *ends: int) -> None:
        self.disk = member_disk()
        self.learner = learner(self.disk)
        self.checkpointer = checkpointer(self.disk.process())
        first = 0
        for end in ends:
            self.seal(first, end)
            first = end

    def seal(self, first: int, end: int) -> None:
        self.learner.store.write([SealSegment(GROUP, tuple(SEALED[first:end]))])
        self.learner.store.sync()

    def path(self, first: int, last: int) -> str:
        return f"learner/log/group={GROUP}/{first:016d}-{last:016d}.plain"

    def manifest(self, instance_id: int) -> Manifest:
        read = self.checkpointer.store.run(ReadManifest(GROUP, READER, instance_id - 1))
        assert isinstance(read, ManifestRead)
        assert read.manifest is not None
        return decode_manifest(read.manifest, "here", genesis=GENESIS.hash(), group=GROUP)


def cut_at(instance_id: int) -> Cut:
    instance = SEALED[instance_id - 1]
    assert instance.result_chain is not None
    return Cut(instance_id, instance.chain, instance.result_chain, BALLOT, SPEC.configuration)


def host_at(instance_id: int) -> MachineHost:
    host = MachineHost(MachineRegistry(), group=GROUP)
    for at, value in enumerate(VALUES[:instance_id], 1):
        host.apply(at, value)
    return host


# The checkpointer's.


def test_segments_and_chains_are_read() -> None:
    member = Member(4, 9)
    run = member.checkpointer.store.run
    assert run(ReadSegments(GROUP, READER, 3, 10**6)) == SegmentsRead(tuple(CHOSEN[2:9]), 1)
    assert run(ReadSegments(GROUP, READER, 3, 1)) == SegmentsRead((CHOSEN[2],), 1)
    assert run(ReadSegments(GROUP, READER, 10, 1)) == SegmentsRead((), 1)
    for instance_id in (1, 4, 5, 9):
        assert run(ReadChain(GROUP, READER, instance_id)) == ChainRead(
            SEALED[instance_id - 1].chain
        )
    assert run(ReadChain(GROUP, READER, 10)) == ChainRead(None)


def test_what_is_below_the_floor_is_told_as_such_after_a_cut() -> None:
    member = Member(4, 9)
    run = member.checkpointer.store.run
    run(ReadSegments(GROUP, READER, 1, 10**6))
    refused = member.learner.store.run(CutLog(GROUP, 5))
    assert isinstance(refused, TaskFailed), "no checkpoint covers it"
    assert not refused.is_damage
    run(MakeCheckpoint(GROUP, 4))
    assert member.learner.store.run(CutLog(GROUP, 5)) == LogCut(5)
    # Listed before: what it finds gone it lists anew.
    assert run(ReadSegments(GROUP, READER, 1, 10**6)) == SegmentsRead((), 5)
    assert run(ReadChain(GROUP, READER, 4)) == ChainRead(SEALED[3].chain), "before the first"
    assert run(ReadChain(GROUP, READER, 3)) == ChainRead(None)


def test_a_checkpoint_is_made_offered_sent_set_aside_and_dropped() -> None:
    member = Member(4, 9)
    run = member.checkpointer.store.run
    made = run(MakeCheckpoint(GROUP, 9))
    assert isinstance(made, CheckpointMade)
    assert made.cut == cut_at(9)
    manifest = member.manifest(9)
    file = manifest.files[0]
    chunk = run(ReadChunk(GROUP, READER, 9, file.path, 1, 5))
    assert isinstance(chunk, ChunkRead)
    assert chunk.data is not None
    assert len(chunk.data) == 5
    assert run(ReadChunk(GROUP, READER, 8, file.path, 0, 5)) == ChunkRead(None)
    assert run(ReadManifest(GROUP, READER, 9)) == ManifestRead(None)
    scrubbed = run(Scrub(GROUP, None, 9))
    assert scrubbed == Scrubbed("", manifest.byte_count)
    assert run(DropCheckpoint(GROUP, 9)) == TaskDone()
    assert run(ReadManifest(GROUP, READER, 0)) == ManifestRead(None)
    run(MakeCheckpoint(GROUP, 9))
    assert run(SetAsideCheckpoint(GROUP, 9)) == TaskDone()
    assert run(ReadChunk(GROUP, READER, 9, file.path, 0, 5)) == ChunkRead(None)


def test_a_damaged_checkpoint_is_passed_over_and_named_in_what_is_offered() -> None:
    member = Member(4, 9)
    run = member.checkpointer.store.run
    run(MakeCheckpoint(GROUP, 4))
    run(MakeCheckpoint(GROUP, 9))
    member.disk.flip_bit(f"checkpointer/group={GROUP}/{9:016d}/host.msgpack", 30)
    offered = run(ReadManifest(GROUP, READER, 0))
    assert isinstance(offered, ManifestRead)
    assert offered.manifest is not None
    assert offered.damaged == (9,)
    where = decode_manifest(offered.manifest, "x", genesis=GENESIS.hash(), group=GROUP)
    assert where.cut.instance_id == 4
    assert run(ReadManifest(GROUP, READER, 4)) == ManifestRead(None, (9,))


def received(source: Member, target: Member, instance_id: int) -> Sequence[object]:
    """Fetch a checkpoint file by file; the outcomes."""
    run, manifest = target.checkpointer.store.run, source.manifest(instance_id)
    begun = run(BeginTransfer(GROUP, manifest))
    assert isinstance(begun, TransferBegun)
    for file, present in zip(manifest.files, begun.present, strict=True):
        offset = present
        while offset < file.size:
            chunk = source.checkpointer.store.run(
                ReadChunk(GROUP, READER, instance_id, file.path, offset, 50)
            )
            assert isinstance(chunk, ChunkRead)
            assert chunk.data is not None
            write = WriteChunk(GROUP, instance_id, file.path, offset, chunk.data)
            assert run(write) == TaskDone()
            offset += len(chunk.data)
    return begun.present


def test_a_checkpoint_is_received_published_and_loaded_by_the_learner() -> None:
    source, target = Member(4, 9), Member()
    source.checkpointer.store.run(MakeCheckpoint(GROUP, 9))
    assert not any(received(source, target, 9))
    assert target.learner.store.run(LoadCheckpoint(GROUP, 0)) == TaskFailed(
        "no checkpoint above instance 0: there is none"
    )
    assert target.checkpointer.store.run(PublishTransfer(GROUP, 9)) == TaskDone()
    loaded = target.learner.store.run(LoadCheckpoint(GROUP, 0))
    assert isinstance(loaded, CheckpointLoaded)
    assert loaded.cut == cut_at(9)
    assert loaded.host.digest() == host_at(9).digest()
    assert isinstance(target.learner.store.run(LoadCheckpoint(GROUP, 9)), TaskFailed)
    assert target.learner.store.run(CutLog(GROUP, 10, loaded.cut)) == LogCut(10)
    target.seal(9, 12)
    target.disk.kill()
    role = learner(target.disk).role.roles[GROUP]  # type: ignore[attr-defined]
    assert (role.applied_through, role.durable_through) == (12, 12)


def test_a_transfer_that_broke_off_goes_on_and_damage_is_found_at_its_end() -> None:
    source, target = Member(4, 9), Member()
    source.checkpointer.store.run(MakeCheckpoint(GROUP, 9))
    manifest = source.manifest(9)
    received(source, target, 9)
    target.checkpointer.store.close()
    target.checkpointer = checkpointer(target.disk.process())
    present = received(source, target, 9)
    assert list(present) == [file.size for file in manifest.files]
    target.disk.flip_bit(f"checkpointer/group={GROUP}/{9:016d}/{manifest.files[0].path}", 9)
    run = target.checkpointer.store.run
    failed = run(PublishTransfer(GROUP, 9))
    assert isinstance(failed, TaskFailed)
    assert failed.is_damage
    assert manifest.files[0].path in failed.why
    present = received(source, target, 9)
    sizes = [file.size for file in manifest.files]
    assert list(present) == [0, *sizes[1:]], "that file alone"
    assert run(PublishTransfer(GROUP, 9)) == TaskDone()
    assert run(Scrub(GROUP, None, 9)) == Scrubbed("", manifest.byte_count)


def test_a_chunk_of_another_transfer_is_refused() -> None:
    source, target = Member(4, 9), Member()
    source.checkpointer.store.run(MakeCheckpoint(GROUP, 9))
    manifest, run = source.manifest(9), target.checkpointer.store.run
    path = manifest.files[0].path
    assert isinstance(run(WriteChunk(GROUP, 9, path, 0, b"x")), TaskFailed), "none is begun"
    run(BeginTransfer(GROUP, manifest))
    assert isinstance(run(WriteChunk(GROUP, 9, path, 3, b"x")), TaskFailed), "a hole"
    assert isinstance(run(WriteChunk(GROUP, 9, "../identity.json", 0, b"x")), TaskFailed)
    assert isinstance(run(PublishTransfer(GROUP, 8)), TaskFailed)


def test_a_merge_is_published_by_the_learner() -> None:
    member = Member(4, 9)
    assert isinstance(member.learner.store.run(PublishMerged(GROUP, 1, 9)), TaskFailed)
    assert member.checkpointer.store.run(MergeSegments(GROUP, 1, 9)) == TaskDone()
    assert member.learner.store.run(PublishMerged(GROUP, 1, 9)) == TaskDone()
    run = member.checkpointer.store.run
    assert run(ReadSegments(GROUP, READER, 1, 10**6)) == SegmentsRead(tuple(CHOSEN[:9]), 1)
    assert run(Scrub(GROUP, (1, 4))) == Scrubbed("", 0), "gone"


def test_a_damaged_segment_is_found_and_replaced() -> None:
    member = Member(4, 9)
    run = member.checkpointer.store.run
    member.disk.flip_bit(member.path(5, 9), 8 * 20)
    found = run(Scrub(GROUP, (5, 9)))
    assert isinstance(found, Scrubbed)
    assert member.path(5, 9) in found.damage
    wrong = run(ReadSegments(GROUP, READER, 5, 10**6))
    assert isinstance(wrong, TaskFailed)
    assert wrong.is_damage
    other = msgspec.structs.replace(CHOSEN[4], value=b"other")
    refused = member.learner.store.run(ReplaceSegment(GROUP, (other, *CHOSEN[5:9])))
    assert isinstance(refused, TaskFailed)
    assert refused.is_damage
    assert isinstance(run(ReadSegments(GROUP, READER, 5, 10**6)), TaskFailed)
    assert member.learner.store.run(ReplaceSegment(GROUP, tuple(CHOSEN[4:9]))) == TaskDone()
    assert run(ReadSegments(GROUP, READER, 5, 10**6)) == SegmentsRead(tuple(CHOSEN[4:9]), 1)
    assert isinstance(run(MakeCheckpoint(GROUP, 9)), CheckpointMade)


def test_what_a_learner_saves_is_taken_over_and_removed() -> None:
    member = Member(4, 9)
    learner_run, run = member.learner.store.run, member.checkpointer.store.run
    assert isinstance(run(TakeSaved(GROUP, 9)), TaskFailed), "nothing is saved"
    learner_run(SaveState(GROUP, cut_at(4), host_at(4)))
    saved = learner_run(SaveState(GROUP, cut_at(9), host_at(9)))
    assert isinstance(saved, CheckpointMade)
    assert isinstance(run(TakeSaved(GROUP, 4)), TaskFailed), "one at a time"
    taken = run(TakeSaved(GROUP, 9))
    assert taken == CheckpointMade(cut_at(9), saved.byte_count)
    loaded = learner_run(LoadCheckpoint(GROUP, 0))
    assert isinstance(loaded, CheckpointLoaded)
    assert loaded.host.digest() == host_at(9).digest()
    assert learner_run(DropSaved(GROUP)) == learner_run(DropSaved(GROUP)) == TaskDone()
    assert not [path for path in member.disk.files() if path.startswith("learner/saved/")]


def test_a_damaged_saved_state_becomes_no_checkpoint() -> None:
    member = Member(4, 9)
    member.learner.store.run(SaveState(GROUP, cut_at(9), host_at(9)))
    saved = [path for path in member.disk.files() if path.startswith("learner/saved/")]
    (path,) = [path for path in saved if path.endswith("host.msgpack")]
    member.disk.flip_bit(path, 30)
    failed = member.checkpointer.store.run(TakeSaved(GROUP, 9))
    assert isinstance(failed, TaskFailed)
    assert failed.is_damage
    assert member.checkpointer.store.run(ReadManifest(GROUP, READER, 0)) == ManifestRead(None)


# Failures.


def all_tasks(member: Member) -> Sequence[tuple[Callable[[Task], Outcome], Task]]:
    """One of each that touches the disk, with the store that does it."""
    member.checkpointer.store.run(MakeCheckpoint(GROUP, 4))
    manifest = member.manifest(4)
    later = Manifest(manifest.genesis, GROUP, cut_at(9), manifest.machines, manifest.files)
    path = manifest.files[0].path
    checkpointer_run, learner_run = member.checkpointer.store.run, member.learner.store.run
    own: list[Task] = [
        CutLog(GROUP, 5),
        ReplaceSegment(GROUP, tuple(CHOSEN[4:9])),
        PublishMerged(GROUP, 1, 9),
        LoadCheckpoint(GROUP, 0),
        SaveState(GROUP, cut_at(9), host_at(9)),
        DropSaved(GROUP),
    ]
    others: list[Task] = [
        ReadSegments(GROUP, READER, 1, 10),
        ReadChain(GROUP, READER, 3),
        MergeSegments(GROUP, 1, 9),
        MakeCheckpoint(GROUP, 9),
        TakeSaved(GROUP, 9),
        ReadManifest(GROUP, READER, 0),
        ReadChunk(GROUP, READER, 4, path, 0, 10),
        BeginTransfer(GROUP, later),
        WriteChunk(GROUP, 9, path, 0, b"x"),
        PublishTransfer(GROUP, 9),
        Scrub(GROUP, (1, 4)),
        DropCheckpoint(GROUP, 4),
        SetAsideCheckpoint(GROUP, 4),
        FollowParts(0),
    ]
    return [(learner_run, task) for task in own] + [(checkpointer_run, task) for task in others]


def test_every_task_there_is_has_a_store_that_does_it() -> None:
    assert {type(task) for _, task in all_tasks(Member(4, 9))} == set(get_args(Task))
    assert set(SLOW_TASKS) | set(INLINE_TASKS) <= set(get_args(Task))


@pytest.mark.parametrize("position", range(len(get_args(Task))))
def test_a_task_on_a_full_or_failing_disk_is_given_up_and_stops_nothing(position: int) -> None:
    for how in ("full", "failing"):
        member = Member(4, 9)
        run, task = all_tasks(member)[position]
        size = sum(map(len, member.disk.files().values()))
        if how == "full":
            member.disk.set_capacity(size)
        else:
            member.disk.fail_next_sync("")
        run(task)
        member.disk.set_capacity(None)
        with contextlib.suppress(OSError):
            # Where the task synced nothing: it is not to fail another one.
            member.disk.create("scratch").sync()
        # Whatever became of it: both roles go on, with the log as it was.
        member.seal(9, 12)
        latest = member.checkpointer.store.run(ReadSegments(GROUP, READER, 10, 10**6))
        assert isinstance(latest, SegmentsRead)
        assert latest.values == tuple(CHOSEN[9:12])
        whole = member.checkpointer.store.run(ReadSegments(GROUP, READER, 5, 10**6))
        assert whole == SegmentsRead(tuple(CHOSEN[4:12]), 5 if type(task) is CutLog else 1)
        assert isinstance(member.checkpointer.store.run(MakeCheckpoint(GROUP, 12)), CheckpointMade)


@pytest.mark.parametrize("position", range(len(get_args(Task))))
def test_after_a_store_failed_no_task_is_done(position: int) -> None:
    member = Member(4, 9)
    run, task = all_tasks(member)[position]
    member.learner.store.close()
    member.checkpointer.store.close()
    before = member.disk.files()
    assert isinstance(run(task), TaskFailed)
    assert member.disk.files() == before


def test_a_task_of_another_role_is_our_own_bug() -> None:
    member = Member(4)
    with pytest.raises(AssertionError):
        member.learner.store.run(MakeCheckpoint(GROUP, 4))
    with pytest.raises(AssertionError):
        member.checkpointer.store.run(CutLog(GROUP, 4))


def test_groups_come_and_go_while_segments_are_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is to be opened and closed is done in another thread than syncs."""
    member = Member()
    store = member.learner.store
    left = next(spec.group for spec in GENESIS.groups if spec.group != GROUP)
    store.write([SealSegment(GROUP, tuple(SEALED[:4])), PartLeft(left, 1)])
    followed: list[Outcome] = []
    sync_folder = member.disk.sync_folder

    def in_between(path: str) -> None:
        sync_folder(path)
        if not followed:
            # Once: what was left is removed by syncs, too.
            monkeypatch.undo()
            followed.append(store.run(FollowParts(SYSTEM_GROUP)))

    monkeypatch.setattr(member.disk, "sync_folder", in_between)
    store.sync()
    (opened,) = followed
    assert isinstance(opened, PartsOpened)
    assert left not in opened.groups
    store.write([SealSegment(GROUP, tuple(SEALED[4:9]))])
    store.sync()
    assert member.disk.exists(member.path(5, 9))
