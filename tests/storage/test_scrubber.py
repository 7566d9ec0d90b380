"""Reading what lies on the disk: damage is named, what is gone is none."""

from __future__ import annotations

import pytest

from ray_paxos.core.tasks import Scrub, Scrubbed
from ray_paxos.storage.scrubber import Scrubber
from ray_paxos.storage.segments import SegmentPlace
from ray_paxos.testing.codec import PlainCodec
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.checkpoint_support import GENESIS, GROUP, place_on
from tests.storage.test_checkpoint_maker import Bench


def scrubbing() -> tuple[SimulatedDisk, SegmentPlace, Scrubber]:
    """Of segments 1 to 4 and 5 to 9, and a checkpoint of 9."""
    bench = Bench(4, 9)
    bench.made(9)
    return bench.disk, bench.place, Scrubber(bench.place, place_on(bench.disk))


def segment(first: int, last: int) -> Scrub:
    return Scrub(GROUP, (first, last))


CHECKPOINT = Scrub(GROUP, None, 9)


def test_sound_files_are_read_in_full() -> None:
    disk, place, scrubber = scrubbing()
    assert scrubber.scrub(segment(1, 4)) == Scrubbed("", disk.size(place.published(1, 4)))
    found = scrubber.scrub(CHECKPOINT)
    assert found.damage == ""
    assert found.byte_count > 100


def test_a_flip_anywhere_in_a_segment_is_found_and_the_file_named() -> None:
    disk, place, scrubber = scrubbing()
    path = place.published(5, 9)
    for at in range(0, disk.size(path), 7):
        disk.flip_bit(path, 8 * at)
        assert path in scrubber.scrub(segment(5, 9)).damage, at
        disk.flip_bit(path, 8 * at)
    assert scrubber.scrub(segment(5, 9)).damage == ""


def test_a_flip_in_any_file_of_a_checkpoint_is_found_and_the_file_named() -> None:
    disk, _, scrubber = scrubbing()
    folder = place_on(disk).path(9)
    paths = [path for path in disk.files() if path.startswith(folder) and disk.size(path)]
    assert len(paths) > 5
    for path in paths:
        disk.flip_bit(path, 8 * (disk.size(path) // 2))
        assert path in scrubber.scrub(CHECKPOINT).damage
        disk.flip_bit(path, 8 * (disk.size(path) // 2))
    disk.unlink(paths[0])
    assert paths[0] in scrubber.scrub(CHECKPOINT).damage, "a file that is missing"


def test_a_segment_in_anothers_place_is_found() -> None:
    disk, place, scrubber = scrubbing()
    disk.overwrite(place.published(1, 4), disk.read(place.published(5, 9)))
    damage = scrubber.scrub(segment(1, 4)).damage
    assert place.published(1, 4) in damage
    assert "5 to 9" in damage


@pytest.mark.parametrize("other", [b"another cluster!", GENESIS])
def test_a_foreign_segment_is_found(other: bytes) -> None:
    disk, place, _ = scrubbing()
    group = 2 if other == GENESIS else GROUP
    foreign = SegmentPlace(disk, PlainCodec(), other, group, place.log, place.work)
    assert Scrubber(foreign, place_on(disk)).scrub(segment(1, 4)).damage


def test_what_is_gone_is_no_damage() -> None:
    disk, place, scrubber = scrubbing()
    assert scrubber.scrub(segment(1, 9)) == Scrubbed("", 0), "merged, or not there yet"
    assert scrubber.scrub(Scrub(GROUP, None, 4)) == Scrubbed("", 0)
    disk.unlink(place.published(1, 4))
    assert scrubber.scrub(segment(1, 4)) == Scrubbed("", 0)


def test_a_disk_that_refuses_is_no_damage() -> None:
    class Refusing(SimulatedDisk):
        def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
            raise PermissionError(13, "Permission denied", path)

    disk, place, _ = scrubbing()
    refusing = Refusing()
    refusing._medium = disk._medium
    own = SegmentPlace(refusing, place.codec, GENESIS, GROUP, place.log, place.work)
    with pytest.raises(OSError, match="denied"):
        Scrubber(own, place_on(refusing)).scrub(segment(1, 4))
