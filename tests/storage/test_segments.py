"""The chosen log as files: found by names and footers, never served rotten (F2)."""

from __future__ import annotations

import re
from random import Random

import msgspec
import pytest

from ray_paxos.core.records import SealedInstance, SealSegment
from ray_paxos.core.values import EMPTY_CHAIN
from ray_paxos.errors import DamageError, InvariantViolationError
from ray_paxos.storage.segment_format import SegmentContent, header_of, read_instances
from ray_paxos.storage.segment_merging import MergeFolder
from ray_paxos.storage.segments import SegmentReader
from tests.storage.support import (
    GENESIS,
    add_segment,
    make_genesis,
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
ASIDE = "learner/set_aside/group=1"


# Sealing and reading back.


def test_what_was_sealed_is_read_back_as_it_was(codec):
    disk = sealed_disk(codec, 3, 1, 7)
    folder = reopened(disk, codec)
    instances = make_instances(11)
    assert list(folder.replay()) == instances
    assert ranges(folder) == [(1, 3), (4, 4), (5, 11)]
    byte_counts = [byte_count for _, _, byte_count in folder.listed()]
    assert sum(byte_counts) == sum(len(instance.chosen.value) for instance in instances)


def test_reading_gives_what_fits_and_at_least_one(codec):
    disk = sealed_disk(codec, 3, 1, 7)
    reader = SegmentReader(segment_place(disk, codec))
    values = [instance.chosen for instance in make_instances(11)]
    size = len(values[0].value)
    assert reader.read(1, 10**9) == values
    assert reader.read(6, 10**9) == values[5:]
    assert reader.read(2, 3 * size) == values[1:4]
    assert reader.read(4, 1) == values[3:4]
    assert reader.read(12, 10**9) == []
    assert reader.read(0, 1) == []


def test_a_reader_sees_what_is_sealed_after_it_looked(codec):
    disk = sealed_disk(codec, 3)
    reader = SegmentReader(segment_place(disk, codec))
    assert reader.read(4, 10**9) == []
    folder = reopened(disk.process(), codec)
    instances = make_instances(5)
    folder.seal(SealSegment(1, tuple(instances[3:])))
    assert reader.read(4, 10**9) == []
    folder.sync()
    assert reader.read(4, 10**9) == [instance.chosen for instance in instances[3:]]


def test_the_chain_of_what_has_gone_since_it_was_listed_is_none(codec):
    disk = sealed_disk(codec, 3, 1, 7)
    reader = SegmentReader(segment_place(disk, codec))
    reader.refresh()
    last = reader.segments[-1]
    assert last.first < last.last
    assert reader.chain(last.first) is not None
    reader.forget_content()
    disk.unlink(last.path)
    assert reader.chain(last.first) is None


def test_several_segments_can_be_written_before_one_sync(codec):
    disk = member_disk()
    folder = reopened(disk, codec)
    for seal in make_seals(2, 3, 4):
        folder.seal(seal)
    assert folder.listed() == ()
    folder.sync()
    assert ranges(reopened(disk, codec)) == [(1, 2), (3, 5), (6, 9)]


def test_instances_that_do_not_follow_the_log_are_refused(codec):
    disk = sealed_disk(codec, 3)
    folder = reopened(disk, codec)
    instances = make_instances(9)
    before = disk.files()
    wrong_chain = msgspec.structs.replace(instances[4], chain=bytes(16))
    wrong_value = msgspec.structs.replace(
        instances[4], chosen=msgspec.structs.replace(instances[4].chosen, value=b"other")
    )
    for wrong in (
        instances[4:6],
        instances[1:5],
        [*instances[3:5], *instances[6:7]],
        [instances[3], wrong_chain, instances[5]],
        [instances[3], wrong_value, instances[5]],
    ):
        with pytest.raises(InvariantViolationError):
            folder.seal(SealSegment(1, tuple(wrong)))
    folder.sync()
    assert disk.files() == before


def test_results_that_were_not_computed_are_missing_and_harm_nothing(codec):
    disk = member_disk()
    folder = reopened(disk, codec)
    bare = [msgspec.structs.replace(i, result_chain=None) for i in make_instances(4)]
    folder.seal(SealSegment(1, tuple(bare)))
    folder.sync()
    folder = reopened(disk, codec)
    assert list(folder.replay()) == bare
    assert folder.reader.segments[0].header.result_chain_after is None
    assert folder.reader.segments[0].header.result_chain_before == EMPTY_CHAIN


def test_sealing_the_same_again_does_nothing(codec):
    # A write of several records that found no room for the last one is tried again as a whole.
    disk = member_disk()
    folder = reopened(disk, codec)
    seals = make_seals(2, 3)
    folder.seal(seals[0])
    folder.seal(seals[0])
    folder.sync()
    folder.seal(seals[0])
    folder.seal(seals[1])
    folder.sync()
    assert ranges(reopened(disk, codec)) == [(1, 2), (3, 5)]


# What does not add up to one log is damage: nothing of it is given out, and its learner goes on
# from what comes before it.


def check_damage(disk, codec, what: str, *, serves: int, aside: int) -> None:
    """A reader refuses it all; an opening tells of it, and serves the first instances only."""
    with pytest.raises(DamageError, match=what):
        SegmentReader(segment_place(disk, codec)).refresh()
    names = disk.list(LOG)
    folder = reopened(disk, codec)
    assert re.search(what, "; ".join(folder.problems))
    assert list(folder.replay()) == make_instances(serves)
    assert len(disk.list(ASIDE)) == aside
    assert len(disk.list(LOG)) == len(names) - aside
    disk.power_loss(Random(len(names)))
    assert len(disk.list(ASIDE)) == aside, "durably"
    folder = reopened(disk, codec)
    assert folder.problems == ()
    assert list(folder.replay()) == make_instances(serves)


def test_a_missing_segment_is_damage(codec):
    disk = sealed_disk(codec, 2, 2, 2)
    disk.remove(f"{LOG}/{disk.list(LOG)[1]}")
    check_damage(disk, codec, "are missing before it", serves=2, aside=1)


def test_a_log_without_its_first_segment_serves_nothing_unless_a_checkpoint_covers_it(codec):
    # To a reader it looks like a log that was cleaned: only its own checkpoints can tell.
    disk = sealed_disk(codec, 2, 2, 2)
    disk.remove(f"{LOG}/{disk.list(LOG)[0]}")
    reader = SegmentReader(segment_place(disk, codec))
    assert reader.read(1, 10**9) == []
    assert reader.floor == 3
    folder = reopened(disk, codec)
    assert "nothing is there of what comes before it" in folder.problems[0]
    assert list(folder.replay()) == []
    assert len(disk.list(ASIDE)) == 2


def test_a_missing_folder_is_damage_and_is_not_made_anew(codec):
    disk = sealed_disk(codec, 2)
    disk.remove(LOG)
    with pytest.raises(DamageError, match="never made anew"):
        reopened(disk, codec)
    assert not disk.exists(LOG)
    disk.remove(WORK)
    with pytest.raises(DamageError, match="never made anew"):
        MergeFolder.open(segment_place(disk, codec))


def test_segments_that_overlap_are_damage(codec):
    disk = sealed_disk(codec, 3, 3)
    add_segment(disk, codec, 3, 5)
    check_damage(disk, codec, "overlaps", serves=3, aside=2)


def test_a_segment_whose_chain_does_not_continue_is_damage(codec):
    disk = sealed_disk(codec, 3)
    others = make_instances(2, first=4, chain=bytes(16), size=10)
    header = header_of(GENESIS.hash(), 1, others, bytes(16), None)
    disk.create(segment_place(disk, codec).published(4, 5)).write(codec.encode(header, others))
    check_damage(disk, codec, "does not continue", serves=3, aside=1)


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "0000000000000009-0000000000000007", "1-2", "0000000000000004-00000000000000-5"],
)
def test_a_file_that_is_no_segment_is_damage(codec, name):
    disk = sealed_disk(codec, 3)
    disk.create(f"{LOG}/{name}{'' if '.' in name else codec.suffix}")
    check_damage(disk, codec, "is no segment", serves=3, aside=1)


def test_a_renamed_segment_is_damage(codec):
    disk = sealed_disk(codec, 3, 3)
    place = segment_place(disk, codec)
    disk.rename(place.published(4, 6), place.published(4, 7))
    check_damage(disk, codec, "holds instances 4 to 6", serves=3, aside=1)


def test_a_segment_of_another_cluster_or_group_is_damage(codec):
    for genesis, group, what in (
        (make_genesis("other").hash(), 1, "another cluster"),
        (GENESIS.hash(), 2, "group 2"),
    ):
        disk = member_disk()
        instances = make_instances(3)
        header = header_of(genesis, group, instances, EMPTY_CHAIN, EMPTY_CHAIN)
        path = segment_place(disk, codec).published(1, 3)
        disk.create(path).write(codec.encode(header, instances))
        check_damage(disk, codec, what, serves=0, aside=1)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF])
def test_a_flip_in_any_byte_of_a_segment_is_damage(codec, flip):
    disk = sealed_disk(codec, 2)
    place = segment_place(disk, codec)
    path = place.published(1, 2)
    whole = disk.read(path)
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= flip
        with pytest.raises(DamageError):
            codec.open(bytes(flipped), path)
    codec.open(whole, path)


def test_a_segment_cut_anywhere_is_damage(codec):
    disk = sealed_disk(codec, 2)
    path = segment_place(disk, codec).published(1, 2)
    whole = disk.read(path)
    for size in range(0, len(whole), 11):
        for cut in (whole[:size], whole[:size] + bytes(len(whole) - size), whole[size + 1 :]):
            with pytest.raises(DamageError):
                codec.open(cut, path)


def test_nothing_of_a_damaged_segment_is_given_out(codec):
    disk = sealed_disk(codec, 3, 3)
    place = segment_place(disk, codec)
    path = place.published(4, 6)
    disk.flip_bit(path, 8 * 20)
    reader = SegmentReader(place)
    assert len(reader.read(1, 1)) == 1
    with pytest.raises(DamageError):
        reader.read(4, 1)
    folder = reopened(disk, codec)
    assert ranges(folder) == [(1, 3), (4, 6)], "a footer shows nothing of it"
    assert list(folder.replay()) == make_instances(3)
    assert ranges(folder) == [(1, 3)]
    assert disk.list(ASIDE) == [f"damaged-{path.rpartition('/')[2]}"]


def test_a_file_that_was_exchanged_after_it_was_listed_is_damage(codec):
    disk = sealed_disk(codec, 3)
    place = segment_place(disk, codec)
    reader = SegmentReader(place)
    reader.refresh()
    others = make_instances(3, size=10)
    header = header_of(GENESIS.hash(), 1, others, EMPTY_CHAIN, EMPTY_CHAIN)
    disk.overwrite(place.published(1, 3), codec.encode(header, others))
    with pytest.raises(DamageError, match="is not the file that was listed"):
        reader.read(1, 1)


class WrongContent:
    """A codec's content that gives other instances than were sealed, as a fault in it would."""

    def __init__(self, content: SegmentContent, block: int, instances: list[SealedInstance]):
        self.header, self.blocks, self.data = content.header, content.blocks, content.data
        self._content, self._block, self._instances = content, block, instances

    def read(self, index: int) -> list[SealedInstance]:
        return self._instances if index == self._block else self._content.read(index)


def test_instances_are_compared_with_the_chain_whatever_the_codec_gives(codec):
    instances = make_instances(9)
    header = header_of(GENESIS.hash(), 1, instances, EMPTY_CHAIN, EMPTY_CHAIN)
    content = codec.open(codec.encode(header, instances), "a file")
    assert len(content.blocks) >= 3
    for block in (0, 1, len(content.blocks) - 1):
        whole = content.read(block)
        first = whole[0].chosen.instance_id
        fork = make_instances(len(whole), first=first, chain=content.blocks[block].chain_before)
        assert fork == whole
        fork = make_instances(
            len(whole), first=first, chain=content.blocks[block].chain_before, size=10
        )
        renumbered = msgspec.structs.replace(
            whole[0], chosen=msgspec.structs.replace(whole[0].chosen, instance_id=77)
        )
        for wrong in (
            whole[:-1],
            [*whole, whole[-1]],
            fork,
            [renumbered, *whole[1:]],
            [msgspec.structs.replace(whole[0], chain=bytes(16)), *whole[1:]],
        ):
            with pytest.raises(DamageError):
                list(read_instances(WrongContent(content, block, wrong), 1, "a file"))
    assert list(read_instances(WrongContent(content, 99, []), 1, "a file")) == instances
