"""A log above a checkpoint: what it goes on from, and what is set aside where it is damaged."""

from __future__ import annotations

from random import Random

import pytest

from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.records import SealSegment
from ray_paxos.errors import DamageError, InvariantViolationError
from ray_paxos.storage.segment_folders import SegmentFolder
from ray_paxos.storage.segment_format import SegmentCodec, header_of
from ray_paxos.storage.set_aside import DAMAGED, DAMAGED_MAX, SetAside
from ray_paxos.testing.codec import PlainCodec
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.crashing import aftermaths, crashes
from tests.storage.support import (
    BALLOT,
    GENESIS,
    add_segment,
    make_genesis,
    make_instances,
    member_disk,
    ranges,
    sealed_disk,
    segment_place,
)

LOG = "learner/log/group=1"
ASIDE = "learner/set_aside/group=1"
COUNT = 12
INSTANCES = make_instances(COUNT)


def base_at(instance_id: int, *, chain: bytes | None = None) -> Cut:
    instance = INSTANCES[instance_id - 1]
    assert instance.result_chain is not None
    configuration = Configuration(0, (Voter(11, 1),))
    return Cut(instance_id, chain or instance.chain, instance.result_chain, BALLOT, configuration)


def opened(disk: SimulatedDisk, codec: SegmentCodec, base: int | Cut) -> SegmentFolder:
    cut = base_at(base) if isinstance(base, int) and base else base
    return SegmentFolder.open(segment_place(disk, codec), cut if isinstance(cut, Cut) else None)


def replayed(folder: SegmentFolder) -> list[int]:
    told = list(folder.replay())
    assert told == INSTANCES[told[0].chosen.instance_id - 1 :][: len(told)] if told else True
    return [instance.chosen.instance_id for instance in told]


def aside(disk: SimulatedDisk) -> list[str]:
    """Ranges of what was set aside; of damaged ones with a mark."""
    if not disk.exists(ASIDE):
        return []
    found = []
    for name in disk.list(ASIDE):
        mark = "!" if name.startswith(DAMAGED) else ""
        first, _, last = name.removeprefix(DAMAGED).partition("-")
        found.append(f"{mark}{int(first)}-{int(last.split('.')[0])}")
    return sorted(found)


def goes_on(disk: SimulatedDisk, codec: SegmentCodec, base: int) -> None:
    """Whatever was found, the rest is learned again and sealed, and the next start has it all."""
    folder = opened(disk, codec, base)
    told = replayed(folder)
    end = told[-1] if told else base
    if end < COUNT:
        folder.seal(SealSegment(1, tuple(INSTANCES[end:])))
        folder.sync()
    disk.power_loss(Random(end))
    folder = opened(disk, codec, base)
    assert replayed(folder) == list(range(base + 1, COUNT + 1))
    assert folder.problems == ()
    assert [name for name in aside(disk) if not name.startswith("!")] == [], "held again"


# Sound logs.


@pytest.mark.parametrize("base", range(13))
def test_a_sound_log_is_replayed_from_after_any_checkpoint(codec, base):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    folder = opened(disk, codec, base)
    assert replayed(folder) == list(range(base + 1, COUNT + 1))
    assert folder.problems == ()
    assert ranges(folder) == [(1, 3), (4, 6), (7, 9), (10, 12)], "below it, for other members"
    assert aside(disk) == []


@pytest.mark.parametrize("base", [3, 4, 6, 12])
def test_a_log_that_was_cleaned_begins_where_its_checkpoint_reaches(codec, base):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    disk.remove(f"{LOG}/{disk.list(LOG)[0]}")
    folder = opened(disk, codec, base)
    assert replayed(folder) == list(range(base + 1, COUNT + 1))
    assert ranges(folder) == [(4, 6), (7, 9), (10, 12)]
    goes_on(disk, codec, base)


def test_a_log_that_ends_below_its_checkpoint_goes_on_after_it(codec):
    disk = sealed_disk(codec, 3, 3)
    folder = opened(disk, codec, 8)
    assert replayed(folder) == []
    assert folder.problems == ()
    assert disk.list(LOG) == [], "the checkpoint covers it, and the next segment begins at 9"
    goes_on(disk, codec, 8)


def test_an_empty_log_goes_on_after_its_checkpoint_with_its_chains(codec):
    disk = member_disk()
    folder = opened(disk, codec, 8)
    with pytest.raises(InvariantViolationError):
        folder.seal(SealSegment(1, tuple(INSTANCES[:2])))
    folder.seal(SealSegment(1, tuple(INSTANCES[8:10])))
    folder.sync()
    header = folder.reader.segments[0].header
    assert (header.chain_before, header.result_chain_before) == (
        INSTANCES[7].chain,
        INSTANCES[7].result_chain,
    )
    goes_on(disk, codec, 8)


# Holes.


@pytest.mark.parametrize(
    ("lost", "base", "told", "listed", "set_aside"),
    [
        (1, 9, [10, 11, 12], [(7, 9), (10, 12)], []),
        (1, 6, [7, 8, 9, 10, 11, 12], [(7, 9), (10, 12)], []),
        (1, 5, [], [], ["10-12", "7-9"]),
        (1, 3, [], [(1, 3)], ["10-12", "7-9"]),
        (2, 5, [6], [(1, 3), (4, 6)], ["10-12"]),
        (0, 0, [], [], ["10-12", "4-6", "7-9"]),
        (0, 2, [], [], ["10-12", "4-6", "7-9"]),
        (3, 12, [], [], []),
    ],
    ids=[
        "below",
        "right below",
        "around",
        "right above",
        "above",
        "the first, no checkpoint",
        "the first, a checkpoint inside it",
        "the last",
    ],
)
def test_a_hole(codec, lost, base, told, listed, set_aside):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    disk.remove(f"{LOG}/{disk.list(LOG)[lost]}")
    folder = opened(disk, codec, base)
    assert replayed(folder) == told
    assert ranges(folder) == listed
    assert aside(disk) == set_aside
    assert bool(folder.problems) == bool(set_aside), "what the checkpoint covers is no problem"
    goes_on(disk, codec, base)


# Damage of one file.


def damage(disk: SimulatedDisk, codec: SegmentCodec, how: str, first: int = 4) -> None:
    """Do something to the segment of 4 to 6 (or another of three)."""
    last = first + 2
    place = segment_place(disk, codec)
    path = place.published(first, last)
    whole = disk.read(path)
    match how:
        case "body":
            disk.flip_bit(path, 8 * 20)
        case "footer":
            disk.flip_bit(path, 8 * (len(whole) - 10))
        case "truncated":
            disk.overwrite(path, whole[: len(whole) * 2 // 3])
        case "empty":
            disk.overwrite(path, b"")
        case "renamed":
            disk.rename(path, place.published(first, last + 1))
        case "swapped":
            other = place.published(10, 12)
            disk.overwrite(path, disk.read(other))
            disk.overwrite(other, whole)
        case "exchanged":
            others = make_instances(3, first=first, chain=INSTANCES[first - 2].chain, size=10)
            chain = INSTANCES[first - 2].chain
            header = header_of(GENESIS.hash(), 1, others, chain, chain)
            disk.overwrite(path, codec.encode(header, others))
        case "another cluster's" | "another group's":
            foreign = how == "another cluster's"
            genesis = make_genesis("other").hash() if foreign else GENESIS.hash()
            own = INSTANCES[first - 1 : last]
            chain = INSTANCES[first - 2].chain
            header = header_of(genesis, 1 if foreign else 2, own, chain, chain)
            disk.overwrite(path, codec.encode(header, own))
        case _:
            raise AssertionError(how)


DAMAGES = [
    "body",
    "footer",
    "truncated",
    "empty",
    "renamed",
    "swapped",
    "exchanged",
    "another cluster's",
    "another group's",
]


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "exchanged"])
@pytest.mark.parametrize("base", [0, 2, 3, 4, 5])
def test_nothing_is_served_of_a_damaged_segment_above_the_checkpoint(codec, base, how):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    damage(disk, codec, how)
    folder = opened(disk, codec, base)
    told = replayed(folder)
    assert told == list(range(base + 1, 4))
    assert folder.problems
    assert folder.reader.last in (0, 3)
    disk.kill()
    goes_on(disk, codec, base)


@pytest.mark.parametrize("base", [4, 5])
def test_other_values_around_the_checkpoint_contradict_its_chain(codec, base):
    # The file is whole and goes on from what is before it: only the checkpoint knows better.
    disk = sealed_disk(codec, 3, 3, 3, 3)
    damage(disk, codec, "exchanged")
    folder = opened(disk, codec, base)
    assert replayed(folder) == []
    assert any("checkpoint's chain" in problem for problem in folder.problems)
    assert "!4-6" in aside(disk)
    goes_on(disk, codec, base)


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "swapped"])
@pytest.mark.parametrize("base", [6, 8])
def test_damage_below_the_checkpoint_costs_nothing_that_is_needed(codec, base, how):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    damage(disk, codec, how)
    folder = opened(disk, codec, base)
    assert replayed(folder) == list(range(base + 1, COUNT + 1))
    goes_on(disk, codec, base)


def test_a_segment_that_is_there_twice_is_known_by_one_name(codec):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    place = segment_place(disk, codec)
    copy = disk.create(place.published(13, 15))
    copy.write(disk.read(place.published(4, 6)))
    folder = opened(disk, codec, 0)
    assert replayed(folder) == list(range(1, COUNT + 1))
    assert aside(disk) == ["!13-15"]
    assert "holds instances 4 to 6" in folder.problems[0]


def test_a_range_inside_another_is_removed_once_the_other_is_read_in_full(codec):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    add_segment(disk, codec, 4, 9)
    folder = opened(disk, codec, 4)
    assert ranges(folder) == [(1, 3), (4, 9), (10, 12)]
    assert len(disk.list(LOG)) == 3
    goes_on(disk, codec, 4)


@pytest.mark.parametrize("position", ["body", "footer"])
def test_a_damaged_merged_segment_is_set_aside_while_its_parts_are_there(codec, position):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    path = add_segment(disk, codec, 4, 9)
    disk.flip_bit(path, 8 * (20 if position == "body" else disk.size(path) - 10))
    folder = opened(disk, codec, 4)
    assert replayed(folder) == list(range(5, COUNT + 1))
    assert aside(disk) == ["!4-9"]


# The chain.


@pytest.mark.parametrize("base", [3, 4, 6, 11])
def test_a_log_that_does_not_lead_to_the_checkpoints_chain_is_not_served(codec, base):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    folder = opened(disk, codec, base_at(base, chain=b"another chain   "))
    assert list(folder.replay()) == []
    assert any("chain" in problem for problem in folder.problems)
    assert folder.reader.last in (0, base), "the next segment begins right after the checkpoint"
    assert aside(disk) != []


def test_a_missing_folder_is_damage_with_a_checkpoint_too(codec):
    disk = member_disk()
    disk.remove(LOG)
    with pytest.raises(DamageError, match="never made anew"):
        opened(disk, codec, 8)


# What is set aside.


def test_of_damaged_files_a_few_stay(codec):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    place = segment_place(disk, codec)
    for round in range(2 * DAMAGED_MAX):
        path = add_segment(disk, codec, 13, 13 + round)
        disk.flip_bit(path, 8 * (disk.size(path) - 10))
        assert replayed(opened(disk, codec, 0)) == list(range(1, COUNT + 1))
    assert len(aside(disk)) == DAMAGED_MAX
    folder = SegmentFolder.open(place)
    assert len(folder.set_aside) == DAMAGED_MAX
    assert folder.problems == ()


def test_sound_files_stay_until_their_instances_are_held_again(codec):
    disk = sealed_disk(codec, 3, 3, 3, 3)
    disk.remove(f"{LOG}/{disk.list(LOG)[1]}")
    folder = opened(disk, codec, 0)
    assert aside(disk) == ["10-12", "7-9"]
    folder.seal(SealSegment(1, tuple(INSTANCES[3:9])))
    folder.sync()
    opened(disk, codec, 0)
    assert aside(disk) == ["10-12"], "it may be the only copy"
    disk.create(f"{ASIDE}/notes.txt").close()
    SetAside(segment_place(disk, codec)).clean(10**9)
    assert disk.list(ASIDE) == ["notes.txt"]


def test_a_crash_at_each_operation_of_an_opening_that_sets_aside_loses_no_sound_file():
    codec = PlainCodec(block_bytes=100)
    start = sealed_disk(codec, 3, 3, 3, 3)
    damage(start, codec, "footer")

    def scenario(disk: SimulatedDisk) -> None:
        replayed(opened(disk, codec, 2))

    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(6)):
            where = f"operation {operation}, {what}"
            folder = opened(disk, codec, 2)
            assert replayed(folder) == [3], where
            assert aside(disk) == ["!4-6", "10-12", "7-9"], where
            goes_on(disk, codec, 2)


def test_a_crash_at_each_operation_of_a_replay_that_finds_damage_loses_no_sound_file():
    codec = PlainCodec(block_bytes=100)
    for base in (2, 5):
        start = sealed_disk(codec, 3, 3, 3, 3)
        damage(start, codec, "body")

        def scenario(disk: SimulatedDisk, base: int = base) -> None:
            replayed(opened(disk, codec, base))

        for operation, crashed in crashes(start, scenario):
            for what, disk in aftermaths(crashed, range(6)):
                where = f"base {base}, operation {operation}, {what}"
                assert replayed(opened(disk, codec, base)) == ([3] if base == 2 else []), where
                assert aside(disk) == ["!4-6", "10-12", "7-9"], where
                goes_on(disk, codec, base)
