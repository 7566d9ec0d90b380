"""The journal on disks that fail or have no room: fail-stop, and healing (F3, F5)."""

from __future__ import annotations

from random import Random

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.records import (
    JournalRecord,
    PromiseMade,
)
from ray_paxos.errors import StorageError, StorageFullError
from ray_paxos.storage.journal import open_journal
from tests.storage.support import (
    SMALL_FILES,
    append,
    fold,
    journal_disk,
    journal_files,
    reopened_journal,
    vote,
)


def test_after_a_failed_sync_the_journal_refuses_everything_and_syncs_no_more():
    # F3: the first fsync says EIO, a second one would say OK and have written nothing.
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1))
    journal.append([vote(2)])
    disk.fail_next_sync("journal")
    with pytest.raises(StorageError, match="Input/output error"):
        journal.sync()
    path = journal_files(disk)[-1]
    syncs = disk.statistics[path].syncs
    for call in (
        journal.sync,
        lambda: journal.append([vote(3)]),
        lambda: journal.reserve(1),
    ):
        with pytest.raises(StorageError):
            call()
    journal.close()
    assert disk.statistics[path].syncs == syncs
    disk.power_loss(Random(1))
    state = open_journal(disk, "acceptor")[1]
    assert state == fold([vote(1)])


def test_after_a_failed_write_the_journal_refuses_everything():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1))
    disk.fail_next_write("journal")
    with pytest.raises(StorageError, match="cannot write"):
        journal.append([vote(2)])
    with pytest.raises(StorageError):
        journal.append([vote(3)])
    assert reopened_journal(disk)[1] == fold([vote(1)])


@pytest.mark.parametrize("failing", ["journal/", "current", "acceptor"])
def test_a_failed_sync_while_rolling_stops_the_journal(failing):
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    records: list[JournalRecord] = []
    disk.kill()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    while len(journal.files) == 1 and len(records) < 30:
        if len(records) == 5:
            disk.fail_next_sync(failing)
        records.append(vote(len(records) + 1, size=300))
        try:
            journal.append(records[-1:])
        except StorageError:
            records.pop()
            break
        if len(records) <= 4:
            journal.sync()
    with pytest.raises(StorageError):
        journal.append([vote(50)])
    for seed in range(10):
        dark = disk.snapshot()
        dark.power_loss(Random(seed))
        votes = open_journal(dark, "acceptor")[1].groups[1].votes
        assert set(range(1, 5)) <= set(votes)


def test_a_full_disk_is_told_before_anything_is_written_and_room_heals_it():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1))
    used = sum(map(len, disk.files().values()))
    disk.set_capacity(used)
    assert not journal.reserve(20_000)
    before = disk.files()
    assert not journal.reserve(20_000)
    assert disk.files() == before
    assert journal.reserve(100), "room taken in advance is still there"
    append(journal, vote(2))
    disk.set_capacity(None)
    assert journal.reserve(20_000)
    append(journal, vote(3, size=19_000))
    assert reopened_journal(disk)[1] == fold([vote(1), vote(2), vote(3, size=19_000)])


def test_what_was_reserved_can_be_appended_on_a_full_disk_also_where_files_roll():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    records: list[JournalRecord] = []
    for instance_id in range(1, 60):
        record = vote(instance_id, size=instance_id * 13 % 700)
        assert journal.reserve(len(record.value) + 100)
        disk.set_capacity(sum(map(len, disk.files().values())))
        append(journal, record)
        disk.set_capacity(None)
        records.append(record)
    assert len(journal.files) > 4
    journal.close()
    assert reopened_journal(disk)[1] == fold(records)


def test_room_is_reserved_for_several_appends_at_once():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    records: list[JournalRecord] = []
    for count in range(1, 30):
        assert journal.reserve(count * 60, appends=count)
        disk.set_capacity(sum(map(len, disk.files().values())))
        more = [PromiseMade(1, Ballot(count * 100 + n, 12, 1)) for n in range(count)]
        append(journal, *more)
        records += more
        disk.set_capacity(None)
    assert reopened_journal(disk)[1] == fold(records)


def test_rolling_on_a_full_disk_changes_nothing():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    records = [vote(instance_id, size=300) for instance_id in range(1, 4)]
    append(journal, *records)
    disk.kill()
    rolled = set()
    for room in [*range(0, 5_000, 500), *range(4_050, 4_250, 10)]:
        tight = disk.snapshot()
        journal, _ = open_journal(tight, "acceptor", settings=SMALL_FILES)
        append(journal, vote(4))
        tight.set_capacity(sum(map(len, tight.files().values())) + room)
        before = journal.files
        has_room = journal.reserve(3_000)
        rolled.add(journal.files != before)
        assert journal_files(tight) == [
            f"acceptor/journal/{number:016}.journal" for number in journal.files
        ]
        if has_room:
            append(journal, vote(5, size=2_800))
        tight.set_capacity(None)
        append(journal, vote(6))
        tight.power_loss(Random(room))
        votes = open_journal(tight, "acceptor")[1].groups[1].votes
        assert sorted(votes) == [1, 2, 3, 4, *([5] if has_room else []), 6]
    assert rolled == {True, False}


def test_a_clean_stop_on_a_full_disk_loses_nothing_but_the_end_mark():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1), vote(2))
    disk.set_capacity(sum(map(len, disk.files().values())))
    journal.close()
    disk.set_capacity(None)
    disk.power_loss(Random(3))
    assert open_journal(disk, "acceptor")[1] == fold([vote(1), vote(2)])


def test_an_unfinished_file_in_the_way_does_not_stop_the_journal_from_rolling():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    disk.create(f"acceptor/journal/{journal.files[-1] + 1:016}.journal").write(b"left behind")
    records = [vote(instance_id, size=500) for instance_id in range(1, 15)]
    append(journal, *records)
    assert len(journal.files) > 1
    assert reopened_journal(disk)[1] == fold(records)


def test_an_append_without_room_stops_the_journal_for_good():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor", settings=SMALL_FILES)
    append(journal, vote(1))
    disk.set_capacity(sum(map(len, disk.files().values())))
    with pytest.raises(StorageFullError):
        journal.append([vote(2, size=20_000)])
    disk.set_capacity(None)
    with pytest.raises(StorageError):
        journal.append([vote(3)])
    assert reopened_journal(disk)[1] == fold([vote(1)])


def test_an_append_costs_one_write_and_one_sync():
    disk = journal_disk()
    journal, _ = open_journal(disk, "acceptor")
    append(journal, vote(1))
    path = journal_files(disk)[-1]
    writes, syncs = disk.statistics[path].writes, disk.statistics[path].syncs
    operations = disk.operations
    for instance_id in range(2, 12):
        journal.append([vote(instance_id), vote(instance_id + 100)])
        journal.sync()
    assert disk.statistics[path].writes == writes + 10
    assert disk.statistics[path].syncs == syncs + 10
    assert disk.operations == operations + 20
    journal.sync()
    assert disk.operations == operations + 20, "nothing to sync"
