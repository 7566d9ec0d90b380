"""Cutting a log, and putting a segment in a damaged one's place: at any crash one log is there."""

from __future__ import annotations

import errno

import msgspec
import pytest

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.records import SealSegment
from ray_paxos.errors import DamageError
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segments import SegmentReader, open_segment
from ray_paxos.testing.codec import PlainCodec
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.crashing import aftermaths, crashes
from tests.storage.support import (
    make_instances,
    make_seals,
    member_disk,
    ranges,
    sealed_disk,
    segment_place,
)
from tests.storage.test_damaged_logs import base_at

LOG = "learner/log/group=1"
INSTANCES = make_instances(12)
PLAIN = PlainCodec(block_bytes=100)


def opened(disk: SimulatedDisk, codec=PLAIN, base: Cut | None = None) -> SegmentFolder:
    return SegmentFolder.open(segment_place(disk, codec), base)


def chosen(first: int, last: int) -> list[ChosenValue]:
    return [instance.chosen for instance in INSTANCES[first - 1 : last]]


# Cutting.


def test_whole_segments_below_the_floor_go(codec):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    folder = opened(disk, codec)
    assert folder.cut(1, None) == 1
    assert folder.cut(3, None) == 1, "3 is still to be kept"
    assert folder.cut(8, None) == 7
    assert ranges(folder) == [(7, 9), (10, 12)]
    assert len(disk.list(LOG)) == 2
    assert folder.cut(8, None) == 7, "again"
    assert opened(disk, codec, base_at(6)).reader.floor == 7
    assert [i.chosen for i in opened(disk, codec, base_at(6)).replay()] == chosen(7, 12)


def test_an_install_leaves_the_old_log_behind_and_goes_on_after_it(codec):
    disk = sealed_disk(codec, 3, 3)
    folder = opened(disk, codec)
    assert folder.cut(10, base_at(9)) == 10
    assert disk.list(LOG) == []
    folder.seal(SealSegment(1, tuple(INSTANCES[9:])))
    folder.sync()
    assert folder.cut(10, base_at(9)) == 10, "told twice, what came after it stays"
    again = opened(disk, codec, base_at(9))
    assert list(again.replay()) == INSTANCES[9:]
    assert again.problems == ()


def test_nothing_is_left_behind_while_a_seal_is_on_its_way(codec):
    disk = sealed_disk(codec, 3)
    folder = opened(disk, codec)
    folder.seal(make_seals(3, 3)[1])
    with pytest.raises(AssertionError):
        folder.cut(10, base_at(9))


def test_a_cut_that_the_disk_breaks_off_leaves_one_log_and_can_be_tried_again(codec):
    class Refusing(SimulatedDisk):
        refused = ""

        def unlink(self, path: str) -> None:
            if self.refused and path.endswith(self.refused):
                raise OSError(errno.EIO, "Input/output error", path)
            super().unlink(path)

    disk = Refusing()
    disk._medium = sealed_disk(codec, 3, 3, 3, 3)._medium
    folder = opened(disk, codec)
    disk.refused = segment_place(disk, codec).name(4, 6)
    with pytest.raises(OSError, match="Input/output"):
        folder.cut(10, None)
    assert ranges(folder) == [(4, 6), (7, 9), (10, 12)], "as it is on the disk"
    assert len(disk.list(LOG)) == 3
    disk.refused = ""
    assert folder.cut(10, None) == 10
    assert len(disk.list(LOG)) == 1


def test_a_file_that_somebody_removed_does_not_keep_the_log_from_being_cut(codec):
    disk = sealed_disk(codec, 3, 3, 3)
    folder = opened(disk, codec)
    disk.unlink(f"{LOG}/{disk.list(LOG)[0]}")
    assert folder.cut(7, None) == 7


def test_a_crash_at_each_operation_of_a_cut_leaves_one_log():
    start = sealed_disk(PLAIN, 2, 2, 2, 2, 2, 2)

    def scenario(disk: SimulatedDisk) -> None:
        opened(disk, base=base_at(8)).cut(9, None)

    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(8)):
            # Any checkpoint that the order rested on may turn out to be the newest whole one.
            folder = opened(disk, base=base_at(8))
            where = f"operation {operation}, {what}"
            assert list(folder.replay()) == INSTANCES[8:], where
            assert folder.problems == (), where
            SegmentReader(segment_place(disk, PLAIN)).refresh()


def test_a_crash_at_each_operation_of_an_install_leaves_the_old_log_or_the_new_one():
    start = sealed_disk(PLAIN, 2, 2, 2)

    def scenario(disk: SimulatedDisk) -> None:
        folder = opened(disk)
        folder.cut(10, base_at(9))
        folder.seal(SealSegment(1, tuple(INSTANCES[9:])))
        folder.sync()

    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(8)):
            # The checkpoint was durable before: the next start finds it.
            folder = opened(disk, base=base_at(9))
            told = list(folder.replay())
            where = f"operation {operation}, {what}"
            assert told in ([], INSTANCES[9:]), where
            assert folder.problems == (), where
            if not told:
                folder.seal(SealSegment(1, tuple(INSTANCES[9:])))
                folder.sync()
            assert list(opened(disk, base=base_at(9)).replay()) == INSTANCES[9:], where


# Replacing.


def damaged(codec=PLAIN) -> SimulatedDisk:
    disk = sealed_disk(codec, 3, 3, 3)
    disk.flip_bit(segment_place(disk, codec).published(4, 6), 8 * 20)
    return disk


def test_a_damaged_segment_is_replaced_by_what_it_held(codec):
    disk = damaged(codec)
    folder = opened(disk, codec)
    place = segment_place(disk, codec)
    with pytest.raises(DamageError):
        open_segment(place, place.published(4, 6))
    folder.replace(chosen(4, 6))
    assert ranges(folder) == [(1, 3), (4, 6), (7, 9)]
    header = open_segment(place, place.published(4, 6)).header
    assert header.result_chain_after == INSTANCES[5].result_chain, "it is known from the next one"
    disk.kill()
    told = list(opened(disk, codec).replay())
    assert [(i.chosen, i.chain) for i in told] == [(i.chosen, i.chain) for i in INSTANCES[:9]]
    assert told[5].result_chain == INSTANCES[5].result_chain
    assert len(disk.list(LOG)) == 3


def test_readers_that_had_listed_the_damaged_one_read_its_replacement(codec):
    disk = damaged(codec)
    reader = SegmentReader(segment_place(disk, codec))
    with pytest.raises(DamageError):
        reader.read(1, 10**9)
    opened(disk.process(), codec).replace(chosen(4, 6))
    assert reader.read(1, 10**9) == chosen(1, 9)


def other_value(value: ChosenValue) -> ChosenValue:
    return msgspec.structs.replace(value, value=b"other" + value.value)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_values_without_its_chain_are_refused_and_the_file_stays(codec, position):
    disk = damaged(codec)
    folder = opened(disk, codec)
    before = disk.files()
    wrong = chosen(4, 6)
    wrong[position] = other_value(wrong[position])
    with pytest.raises(DamageError, match="does not have its chain"):
        folder.replace(wrong)
    assert disk.files() == before
    folder.replace(chosen(4, 6))
    assert list(opened(disk, codec).replay())[3].chosen == chosen(4, 4)[0]


@pytest.mark.parametrize(("first", "last"), [(4, 9), (1, 3), (5, 6), (10, 12)])
def test_a_range_that_is_no_segment_by_now_is_not_put_in_place(codec, first, last):
    disk = damaged(codec)
    folder = opened(disk, codec)
    folder.cut(4, None)
    before = disk.files()
    folder.replace(chosen(first, last))
    assert disk.files() == before


def test_a_replacement_that_failed_once_can_be_tried_again(codec):
    disk = damaged(codec)
    folder = opened(disk, codec)
    disk.set_capacity(sum(map(len, disk.files().values())) + 10)
    with pytest.raises(OSError, match="No space"):
        folder.replace(chosen(4, 6))
    disk.set_capacity(None)
    disk.fail_next_sync(LOG)
    with pytest.raises(OSError, match="Input/output"):
        folder.replace(chosen(4, 6))
    folder.replace(chosen(4, 6))
    assert list(opened(disk, codec).replay())[5].chosen == chosen(6, 6)[0]
    assert len(disk.list(LOG)) == 3


def test_a_crash_at_each_operation_of_a_replacement_leaves_the_damaged_or_the_whole_one():
    start = damaged()
    is_done = False

    def scenario(disk: SimulatedDisk) -> None:
        nonlocal is_done
        is_done = False
        opened(disk).replace(chosen(4, 6))
        is_done = True

    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(8)):
            where = f"operation {operation}, {what}"
            folder = opened(disk)
            told = [i.chosen for i in folder.replay()]
            assert told == chosen(1, 9) or (told == chosen(1, 3) and not is_done), where
            aside = disk.list("learner/set_aside/group=1") if told == chosen(1, 3) else []
            assert len(aside) == (2 if told == chosen(1, 3) else 0), where


def test_a_learner_goes_on_sealing_after_a_replacement_of_its_last_segment(codec):
    disk = sealed_disk(codec, 3, 3)
    disk.flip_bit(segment_place(disk, codec).published(4, 6), 8 * 20)
    folder = opened(disk, codec)
    folder.replace(chosen(4, 6))
    folder.seal(SealSegment(1, tuple(INSTANCES[6:9])))
    folder.sync()
    assert [i.chosen for i in opened(disk, codec).replay()] == chosen(1, 9)


def test_an_empty_log_is_cut_to_after_the_checkpoint(codec):
    disk = member_disk()
    folder = opened(disk, codec)
    assert folder.cut(8, base_at(9)) == 10
