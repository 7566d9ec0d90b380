"""Merging, readers beside it, and crashes at every operation of sealing and merging."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from random import Random

import pytest

from ray_paxos.core.records import SealSegment
from ray_paxos.core.values import EMPTY_CHAIN
from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_format import SegmentCodec, header_of
from ray_paxos.storage.segment_merging import MergeFolder
from ray_paxos.storage.segments import SegmentReader, open_segment
from ray_paxos.testing.codec import PlainCodec
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.crashing import aftermaths, crashes
from tests.storage.support import (
    GENESIS,
    add_segment,
    make_instances,
    make_seals,
    member_disk,
    ranges,
    reopened,
    sealed_disk,
    segment_place,
)

LOG = "learner/log/group=1"
WORK = "checkpointer/group=1"


def merge_all(disk: SimulatedDisk, codec: SegmentCodec, first: int, last: int) -> None:
    """A checkpointer merges, its learner publishes."""
    place = segment_place(disk, codec)
    learner = SegmentFolder.open(place)
    checkpointer = MergeFolder.open(place)
    checkpointer.merge(first, last)
    learner.publish(first, last)


def test_a_merged_segment_takes_the_place_of_its_parts(codec):
    disk = sealed_disk(codec, 2, 3, 1, 4)
    merge_all(disk, codec, 3, 6)
    assert len(disk.list(LOG)) == 3
    assert [name for name in disk.list(WORK)] == []
    folder = reopened(disk, codec)
    assert ranges(folder) == [(1, 2), (3, 6), (7, 10)]
    assert list(folder.replay()) == make_instances(10)
    merge_all(disk, codec, 1, 10)
    folder = reopened(disk, codec)
    assert ranges(folder) == [(1, 10)]
    assert list(folder.replay()) == make_instances(10)
    header = folder.reader.segments[0].header
    assert header.result_chain_after == make_instances(10)[-1].result_chain


def test_large_blocks_are_put_together_as_they_are_and_small_ones_made_larger(codec, monkeypatch):
    disk = sealed_disk(codec, 2, 3, 1, 4)
    place = segment_place(disk, codec)
    reader = SegmentReader(place)
    reader.refresh()
    blocks = [block for part in reader.segments for block in open_segment(place, part.path).blocks]
    checkpointer = MergeFolder.open(place)
    with monkeypatch.context() as patch:
        patch.setattr(type(codec), "encode", None)
        checkpointer.merge(1, 10)
    assert list(open_segment(place, place.merged(1, 10)).blocks) == blocks
    coarse = type(codec)(block_bytes=100_000)
    checkpointer = MergeFolder.open(segment_place(disk, coarse))
    checkpointer.merge(1, 10)
    (block,) = open_segment(place, place.merged(1, 10)).blocks
    assert block.first == 1
    SegmentFolder.open(place).publish(1, 10)
    assert list(reopened(disk, codec).replay()) == make_instances(10)


def test_blocks_that_cannot_be_put_together_are_encoded_anew(codec, monkeypatch):
    disk = sealed_disk(codec, 2, 3)
    monkeypatch.setattr(type(codec), "join", lambda self, header, parts: None)
    merge_all(disk, codec, 1, 5)
    assert list(reopened(disk, codec).replay()) == make_instances(5)


def test_parts_that_are_put_together_are_those_that_were_listed(codec):
    disk = sealed_disk(codec, 2, 2)
    place = segment_place(disk, codec)
    checkpointer = MergeFolder.open(place)
    checkpointer.reader.refresh()
    instances = make_instances(4, size=10)
    header = header_of(
        GENESIS.hash(), 1, instances[2:], instances[1].chain, instances[1].result_chain
    )
    disk.overwrite(place.published(3, 4), codec.encode(header, instances[2:]))
    with pytest.raises(DamageError, match="is not the file that was listed"):
        checkpointer.merge(1, 4)
    assert disk.list(WORK) == []


def test_a_learner_goes_on_sealing_behind_what_it_merged(codec):
    disk = sealed_disk(codec, 2, 2)
    place = segment_place(disk, codec)
    learner = SegmentFolder.open(place)
    checkpointer = MergeFolder.open(place)
    checkpointer.merge(1, 4)
    instances = make_instances(8)
    learner.seal(SealSegment(1, tuple(instances[4:6])))
    learner.publish(1, 4)
    learner.seal(SealSegment(1, tuple(instances[6:8])))
    learner.sync()
    assert ranges(learner) == [(1, 4), (5, 6), (7, 8)]
    assert list(reopened(disk, codec).replay()) == instances


def test_an_order_to_publish_that_comes_late_or_twice_does_nothing(codec):
    disk = sealed_disk(codec, 2, 2, 2)
    place = segment_place(disk, codec)
    learner = SegmentFolder.open(place)
    before = disk.files()
    for first, last in ((1, 4), (2, 4), (1, 3), (5, 9), (1, 2)):
        with pytest.raises(StorageError):
            learner.publish(first, last)
    assert disk.files() == before, "there is no merged file"
    merge_all(disk, codec, 1, 6)
    learner = SegmentFolder.open(place)
    checkpointer = MergeFolder.open(place)
    after = disk.files()
    with pytest.raises(StorageError, match="to be merged from 1 to 4"):
        checkpointer.merge(1, 4)
    for last in (4, 6):
        with pytest.raises(StorageError):
            learner.publish(1, last)
    assert disk.files() == after
    assert ranges(learner) == [(1, 6)]


def test_a_merged_file_is_there_for_the_learner_after_any_loss_of_power(codec):
    disk = sealed_disk(codec, 2, 2)
    place = segment_place(disk, codec)
    checkpointer = MergeFolder.open(place)
    checkpointer.merge(1, 4)
    for seed in range(12):
        dark = disk.snapshot()
        dark.power_loss(Random(seed))
        learner = reopened(dark, codec)
        learner.publish(1, 4)
        assert ranges(learner) == [(1, 4)]


def test_a_checkpointer_clears_what_its_earlier_life_left_and_keeps_nothing_in_memory(codec):
    disk = sealed_disk(codec, 2, 2, 2)
    place = segment_place(disk, codec)
    checkpointer = MergeFolder.open(place)
    checkpointer.merge(1, 4)
    disk.create(f"{WORK}/_{place.name(3, 6)}").close()
    assert len(disk.list(WORK)) == 2
    assert checkpointer.reader._content is None
    disk.kill()
    checkpointer = MergeFolder.open(place)
    assert disk.list(WORK) == []
    checkpointer.merge(3, 6)
    checkpointer.merge(3, 6)
    assert disk.list(WORK) == [f"merged-{place.name(3, 6)}"]
    disk.kill()


def test_merging_damaged_segments_is_given_up_and_the_parts_stay(codec):
    disk = sealed_disk(codec, 2, 2)
    place = segment_place(disk, codec)
    disk.flip_bit(place.published(3, 4), 8 * 30)
    checkpointer = MergeFolder.open(place)
    for _ in range(2):
        with pytest.raises(DamageError, match="wrong checksum"):
            checkpointer.merge(1, 4)
    assert disk.list(WORK) == []
    assert len(disk.list(LOG)) == 2


class FlippingDisk(SimulatedDisk):
    """Turns a bit of whatever is written below the checkpointer's folder."""

    def create(self, path: str):
        file = super().create(path)
        if path.startswith(WORK):
            file.write = functools.partial(self._write_flipped, file.write)  # type: ignore[method-assign]
        return file

    @staticmethod
    def _write_flipped(write: Callable[[bytes], None], data: bytes) -> None:
        write(data[:30] + bytes([data[30] ^ 1]) + data[31:])


def test_a_merged_file_that_does_not_read_back_is_given_up(codec):
    disk = sealed_disk(codec, 2, 2)
    flipping = FlippingDisk()
    flipping._medium = disk._medium
    with pytest.raises(DamageError, match="wrong checksum"):
        MergeFolder.open(segment_place(flipping, codec)).merge(1, 4)
    assert disk.list(WORK) == []


@pytest.mark.parametrize("what", ["flipped", "of another range", "of other values"])
def test_a_merged_file_that_went_bad_is_not_published_and_its_parts_stay(codec, what):
    disk = sealed_disk(codec, 2, 2)
    place = segment_place(disk, codec)
    learner = SegmentFolder.open(place)
    checkpointer = MergeFolder.open(place)
    checkpointer.merge(1, 4)
    if what == "flipped":
        disk.flip_bit(place.merged(1, 4), 8 * 30)
    else:
        count, size = (3, 20) if what == "of another range" else (4, 10)
        instances = make_instances(count, size=size)
        header = header_of(GENESIS.hash(), 1, instances, EMPTY_CHAIN, EMPTY_CHAIN)
        disk.overwrite(place.merged(1, 4), codec.encode(header, instances))
    with pytest.raises(DamageError):
        learner.publish(1, 4)
    assert disk.list(WORK) == [], "it would be found damaged for ever"
    assert list(reopened(disk, codec).replay()) == make_instances(4)
    assert len(disk.list(LOG)) == 2


def test_a_full_disk_gives_up_a_merge_and_loses_nothing(codec):
    disk = sealed_disk(codec, 2, 2)
    place = segment_place(disk, codec)
    checkpointer = MergeFolder.open(place)
    disk.set_capacity(sum(map(len, disk.files().values())) + 100)
    with pytest.raises(OSError, match="No space"):
        checkpointer.merge(1, 4)
    assert disk.list(WORK) == []
    assert list(reopened(disk, codec).replay()) == make_instances(4)


class VanishingDisk(SimulatedDisk):
    """Runs something between a listing and the reads that follow it."""

    between: Callable[[], None] | None = None

    def list(self, path: str):
        names = super().list(path)
        between, self.between = self.between, None
        if between is not None:
            between()
        return names


def test_a_reader_copes_with_parts_that_go_while_it_reads(codec):
    disk = sealed_disk(codec, 2, 2, 2)
    vanishing = VanishingDisk()
    vanishing._medium = disk._medium
    reader = SegmentReader(segment_place(vanishing, codec))
    vanishing.between = lambda: merge_all(disk, codec, 1, 4)
    values = [instance.chosen for instance in make_instances(6)]
    assert reader.read(1, 10**9) == values
    assert [(s.first, s.last) for s in reader.segments] == [(1, 4), (5, 6)]
    reader = SegmentReader(segment_place(disk, codec))
    assert reader.read(1, 1) == values[:1]
    merge_all(disk, codec, 1, 6)
    assert reader.read(3, 10**9) == values[2:]


def test_a_listing_that_missed_a_merged_segment_and_its_parts_is_made_again(codec):
    disk = sealed_disk(codec, 2, 2, 2)

    class HalfListed(SimulatedDisk):
        is_half = True

        def list(self, path: str):
            names = super().list(path)
            self.is_half, is_half = False, self.is_half
            return names[2:] if is_half else names

    half = HalfListed()
    half._medium = disk._medium
    reader = SegmentReader(segment_place(half, codec))
    assert reader.read(1, 10**9) == [instance.chosen for instance in make_instances(6)]


# Crashes at every operation.


def test_a_crash_at_each_operation_of_sealing_loses_nothing_that_was_synced():
    codec = PlainCodec(block_bytes=100)
    instances = make_instances(9)
    synced = 0

    def scenario(disk: SimulatedDisk) -> None:
        nonlocal synced
        synced = 0
        folder = reopened(disk, codec)
        for seal in make_seals(2, 3, 4):
            folder.seal(seal)
            folder.sync()
            synced = seal.instances[-1].chosen.instance_id

    for operation, crashed in crashes(member_disk(), scenario):
        for what, disk in aftermaths(crashed, range(8)):
            folder = reopened(disk, codec)
            told = list(folder.replay())
            assert told == instances[: len(told)]
            assert len(told) >= synced, f"operation {operation}, {what}"
            # Schedule 10: what an opening told is durable, whoever had written it.
            disk.power_loss(Random(operation))
            folder = reopened(disk, codec)
            assert list(folder.replay()) == told, f"operation {operation}, {what}"
            rest = instances[len(told) :]
            if rest:
                folder.seal(SealSegment(1, tuple(rest)))
                folder.sync()
            assert list(reopened(disk, codec).replay()) == instances


def test_a_crash_at_each_operation_of_merging_keeps_every_instance():
    codec = PlainCodec(block_bytes=100)
    instances = make_instances(8)
    start = sealed_disk(codec, 2, 2, 2, 2)

    def scenario(disk: SimulatedDisk) -> None:
        merge_all(disk, codec, 1, 4)
        merge_all(disk, codec, 5, 8)
        merge_all(disk, codec, 1, 8)

    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(10)):
            folder = reopened(disk, codec)
            assert list(folder.replay()) == instances, f"operation {operation}, {what}"
            assert len(disk.list(LOG)) == len(folder.listed()), "what a merge left over is gone"
            disk.power_loss(Random(operation))
            with contextlib.suppress(StorageError):
                merge_all(disk, codec, 1, 8)
            assert ranges(reopened(disk, codec)) == [(1, 8)], f"{operation}, {what}"
            assert list(reopened(disk, codec).replay()) == instances, f"{operation}, {what}"


def test_parts_are_not_removed_for_a_merged_segment_that_is_damaged(codec):
    disk = sealed_disk(codec, 2, 2)
    path = add_segment(disk, codec, 1, 4)
    disk.flip_bit(path, 8 * 20)
    folder = reopened(disk, codec)
    assert ranges(folder) == [(1, 2), (3, 4)]
    assert list(folder.replay()) == make_instances(4)
    assert len(disk.list(LOG)) == 2
    (problem,) = folder.problems
    assert path.rpartition("/")[2] in problem


def test_a_failed_sync_of_a_segment_publishes_nothing(codec):
    disk = sealed_disk(codec, 2)
    folder = reopened(disk, codec)
    instances = make_instances(4)
    folder.seal(SealSegment(1, tuple(instances[2:])))
    disk.fail_next_sync(LOG)
    with pytest.raises(OSError, match="Input/output"):
        folder.sync()
    assert len([name for name in disk.list(LOG) if not name.startswith("_")]) == 1
    disk.kill()
    assert list(reopened(disk, codec).replay()) == instances[:2]
