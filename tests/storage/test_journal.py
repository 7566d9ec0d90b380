"""The journal: what it keeps, when it rolls, and what it refuses (R1-R3, F3, F5)."""

from __future__ import annotations

from random import Random

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.records import (
    GroupCreated,
    GroupRemoved,
    JournalRecord,
    LeaseLengthened,
    PromiseMade,
    VoteFloorSet,
)
from ray_paxos.errors import DamageError
from ray_paxos.storage.journal import JournalSettings, create_journal, open_journal
from ray_paxos.storage.journal_files import END_MARK_BYTES
from ray_paxos.storage.journal_frames import FrameKind, encode_frame, first_link, scan
from ray_paxos.testing.disk import SimulatedDisk
from tests.storage.support import (
    SMALL_FILES,
    append,
    fold,
    journal_disk,
    journal_files,
    journal_opening,
    reopened_journal,
    vote,
)

RECORDS: list[JournalRecord] = [
    PromiseMade(1, Ballot(3, 12, 1)),
    vote(1, ballot=Ballot(3, 12, 1)),
    vote(2, ballot=Ballot(3, 12, 1)),
    VoteFloorSet(1, 2),
    LeaseLengthened(1, 2_041),
    GroupCreated(7, 4, Configuration(0, (Voter(11, 4),)), 9),
    vote(9, group=7),
    GroupRemoved(7, 4),
]


def test_what_was_synced_is_there_again():
    disk = journal_disk()
    journal, state = open_journal(disk, "acceptor", settings=SMALL_FILES)
    assert state == fold([])
    append(journal, *RECORDS)
    journal, state = reopened_journal(disk)
    assert state == fold(RECORDS)
    assert state.tombstones == {7: 4}
    assert state.groups[1].longest_lease_ms == 2_041


def test_a_clean_stop_and_a_kill_leave_the_same_state():
    for is_clean in (True, False):
        disk = journal_disk()
        journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
        append(journal, *RECORDS)
        if is_clean:
            journal.close()
        assert reopened_journal(disk)[1] == fold(RECORDS)


def test_records_of_one_append_come_back_all_or_not_at_all():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    together = [vote(instance_id, size=300) for instance_id in range(1, 8)]
    journal.append(together)
    counts = set()
    for seed in range(40):
        dark = disk.snapshot()
        dark.power_loss(Random(seed))
        counts.add(len(open_journal(dark, "acceptor")[1].groups[1].votes))
    assert counts == {0, len(together)}


def test_the_state_given_out_is_the_callers_own():
    # An acceptor's state runs ahead of what it has appended; a new file must not open with that.
    disk = journal_disk()
    journal, state = open_journal(disk, "acceptor", settings=SMALL_FILES)
    state.apply(vote(1))
    state.apply(VoteFloorSet(1, 50))
    state.apply(GroupRemoved(0, 1))
    records: list[JournalRecord] = [vote(instance_id, size=500) for instance_id in range(2, 20)]
    append(journal, *records)
    assert len(journal.files) > 1
    assert reopened_journal(disk)[1] == fold(records)


def test_after_a_torn_tail_the_next_records_do_not_touch_the_old_ones():
    # The parent's R1: it went on at offset 0 of the file and destroyed the oldest record.
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1), vote(2))
    end = len(disk.files()[journal_files(disk)[-1]].rstrip(b"\0"))
    journal.append([vote(3, size=900)])
    path = journal_files(disk)[-1]
    data = disk.files()[path]
    torn = disk.snapshot()
    torn.overwrite(path, data[: end + 600])
    journal, state = reopened_journal(torn)
    assert sorted(state.groups[1].votes) == [1, 2]
    append(journal, vote(3), vote(4))
    journal, state = reopened_journal(torn)
    assert state == fold([vote(1), vote(2), vote(3), vote(4)])
    append(journal, vote(5))
    assert reopened_journal(torn)[1] == fold([vote(i) for i in range(1, 6)])


def test_what_an_opening_told_survives_any_loss_of_power():
    # Schedule 10: killed before the sync; the next life finds the vote in the page cache.
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    journal.append([PromiseMade(1, Ballot(5, 12, 1)), vote(1)])
    _, told = reopened_journal(disk)
    assert told.groups[1].promise == Ballot(5, 12, 1)
    for seed in range(60):
        dark = disk.snapshot()
        dark.power_loss(Random(seed))
        assert open_journal(dark, "acceptor")[1] == told, seed


def test_files_roll_and_go_when_the_floor_has_passed_their_votes():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    records: list[JournalRecord] = []
    sizes = []
    for instance_id in range(1, 200):
        records.append(vote(instance_id))
        if instance_id % 10 == 0:
            records.append(VoteFloorSet(1, instance_id - 5))
        append(journal, *records[-2:] if instance_id % 10 == 0 else records[-1:])
        sizes.append(len(journal.files))
        assert journal_files(disk) == [
            f"acceptor/journal/{number:016}.journal" for number in journal.files
        ]
    assert journal.files[-1] > 15
    assert max(sizes) <= 4
    assert reopened_journal(disk)[1] == fold(records)


def test_files_with_a_vote_above_the_floor_stay():
    disk = journal_disk()
    settings = JournalSettings(file_bytes=4_096, chunk_bytes=2_048, files_max=1_000)
    journal, _ = open_journal(disk, "acceptor", settings=settings)
    first = journal.files[0]
    append(journal, vote(1, group=0))
    for instance_id in range(1, 50):
        append(journal, vote(instance_id), VoteFloorSet(1, instance_id))
    assert journal.files[0] == first
    assert len(journal.files) > 5
    append(journal, VoteFloorSet(0, 2))
    for instance_id in range(50, 70):
        append(journal, vote(instance_id), VoteFloorSet(1, instance_id))
    assert journal.files[0] > first
    assert len(journal.files) <= 3


def test_a_floor_that_stands_still_does_not_pin_files_for_ever():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    records: list[JournalRecord] = [vote(1, group=0)]
    append(journal, *records)
    for instance_id in range(1, 300):
        more: list[JournalRecord] = [vote(instance_id), VoteFloorSet(1, instance_id)]
        records += more
        append(journal, *more)
        assert len(journal.files) <= SMALL_FILES.files_max + 1
    assert reopened_journal(disk)[1] == fold(records)


def test_opening_leaves_one_file_with_everything_live():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    records = [vote(instance_id, size=500) for instance_id in range(1, 60)]
    append(journal, *records)
    assert len(journal.files) > 4
    journal, state = reopened_journal(disk)
    assert state == fold(records)
    assert len(journal.files) == 1 == len(journal_files(disk))
    assert reopened_journal(disk)[1] == fold(records)


# What is missing or wrong is damage, never an empty journal (the parent's R3).


def busy_disk() -> SimulatedDisk:
    """A journal of several live files, stopped by a kill."""
    disk = journal_disk()
    settings = JournalSettings(file_bytes=4_096, chunk_bytes=2_048, files_max=1_000)
    journal, _ = open_journal(disk, "acceptor", settings=settings)
    append(journal, *[vote(instance_id, size=500) for instance_id in range(1, 20)])
    assert len(journal.files) >= 4
    disk.kill()
    return disk


def test_a_missing_journal_is_damage_and_is_not_made_anew():
    for path in ("acceptor/current", "acceptor/journal"):
        disk = busy_disk()
        disk.remove(path)
        before = disk.files()
        with pytest.raises(DamageError, match="missing"):
            open_journal(disk, "acceptor")
        assert disk.files() == before


def test_each_missing_live_file_is_damage():
    for path in journal_files(busy_disk()):
        disk = busy_disk()
        disk.remove(path)
        with pytest.raises(DamageError, match="missing"):
            open_journal(disk, "acceptor")


def test_a_live_file_without_its_end_mark_is_damage():
    for path in journal_files(busy_disk())[:-1]:
        disk = busy_disk()
        whole = disk.read(path)
        end = len(whole.rstrip(b"\0")) - END_MARK_BYTES
        disk.overwrite(path, whole[:end] + bytes(len(whole) - end))
        with pytest.raises(DamageError, match="end mark"):
            open_journal(disk, "acceptor")


def test_a_file_that_opens_otherwise_than_the_one_before_it_ends_is_damage():
    # An older copy of a file, whole in itself, put in the place of the true one.
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    (number,) = journal.files
    path = f"acceptor/journal/{number:016}.journal"
    opening = disk.read(path)[:END_MARK_BYTES]
    for instance_id in range(1, 12):
        append(journal, PromiseMade(1, Ballot(instance_id, 12, 1)), vote(instance_id, size=400))
    assert len(journal.files) > 1
    (frame,) = scan(opening, link=first_link(b"", number), where=path).frames
    data, link = encode_frame(
        frame.kind, frame.body, link=first_link(b"", number), durable_through=0
    )
    end, _ = encode_frame(FrameKind.END, b"", link=link, durable_through=len(data))
    disk.overwrite(path, data + end)
    with pytest.raises(DamageError, match="does not open with"):
        reopened_journal(disk)


def test_a_file_that_does_not_belong_there_is_damage():
    disk = busy_disk()
    disk.create("acceptor/journal/notes.txt")
    with pytest.raises(DamageError, match=r"notes\.txt"):
        open_journal(disk, "acceptor")


def test_files_above_the_named_one_are_unfinished_and_go():
    disk = busy_disk()
    _, expected = open_journal(disk.snapshot(), "acceptor")
    last = journal_files(disk)[-1]
    number = int(last.split("/")[-1].removesuffix(".journal"))
    for name in (f"{number + 1:016}.journal", f"{number + 2:016}.journal"):
        disk.create(f"acceptor/journal/{name}").write(disk.read(last))
    journal, state = open_journal(disk, "acceptor")
    assert state == expected
    assert len(journal_files(disk)) == 1
    assert journal.files == (number + 1,)


@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_a_flip_in_any_byte_of_the_name_file_is_damage(flip):
    disk = busy_disk()
    whole = disk.read("acceptor/current")
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= flip
        disk.overwrite("acceptor/current", bytes(flipped))
        with pytest.raises(DamageError):
            open_journal(disk, "acceptor")


def test_a_flip_in_any_durable_byte_of_any_live_file_is_damage():
    disk = busy_disk()
    for path in journal_files(disk):
        whole = disk.read(path)
        end = len(whole.rstrip(b"\0"))
        for at in range(0, end, 13):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << (at % 8)
            disk.overwrite(path, bytes(flipped))
            with pytest.raises(DamageError):
                open_journal(disk, "acceptor")
        disk.overwrite(path, whole)
    open_journal(disk, "acceptor")


def test_a_journal_that_lost_its_end_after_a_clean_stop_is_damage():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1), vote(2))
    journal.close()
    path = journal_files(disk)[-1]
    whole = disk.read(path)
    for size in range(0, len(whole), 100):
        for rest in (b"", bytes(len(whole) - size)):
            cut = disk.snapshot()
            if whole[:size] + rest != whole:
                cut.overwrite(path, whole[:size] + rest)
                if len((whole[:size] + rest).rstrip(b"\0")) < len(whole.rstrip(b"\0")):
                    with pytest.raises(DamageError):
                        open_journal(cut, "acceptor")


def test_a_file_that_lost_what_it_opened_with_is_damage():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1))
    reopened_journal(disk)
    path = journal_files(disk)[-1]
    whole = disk.read(path)
    for size in range(0, len(whole), 64):
        cut = disk.snapshot()
        cut.overwrite(path, whole[:size] + bytes(len(whole) - size))
        if len(whole[:size].rstrip(b"\0")) < len(whole.rstrip(b"\0")):
            with pytest.raises(DamageError):
                open_journal(cut, "acceptor")


def test_a_journal_of_another_member_is_damage():
    disk = SimulatedDisk()
    disk.make_folder("acceptor/journal")
    create_journal(disk, "acceptor", journal_opening(), owner=b"amber")
    open_journal(disk, "acceptor", owner=b"amber")
    with pytest.raises(DamageError):
        open_journal(disk, "acceptor", owner=b"birch")


def test_a_record_of_a_group_that_was_never_made_is_damage():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    with pytest.raises(KeyError):
        append(journal, vote(1, group=99))
    with pytest.raises(DamageError, match="group 99"):
        reopened_journal(disk)
