"""Crashes of the journal at every operation of the disk, and at random ones (F1, F4, 10, 26)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.core.acceptor_state import AcceptorState
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.records import (
    JournalRecord,
    LeaseLengthened,
    PromiseMade,
    VoteCast,
    VoteFloorSet,
)
from ray_paxos.errors import DamageError, StorageError
from ray_paxos.storage.journal import JournalSettings, create_journal, open_journal
from ray_paxos.testing.disk import CrashedError, SimulatedDisk
from tests.storage.crashing import aftermaths, crashes
from tests.storage.support import BALLOT, fold, journal_disk, journal_opening

TINY = JournalSettings(file_bytes=2_048, chunk_bytes=1_024, files_max=3)


class Model:
    """What was appended and what was synced, for comparing with what an opening finds."""

    def __init__(self) -> None:
        self.appended: list[JournalRecord] = []
        self.synced = 0

    def states(self, appends: list[int]) -> list[AcceptorState]:
        """Every state that a crash may leave: whole appends, and all that was synced."""
        return [fold(self.appended[:count]) for count in appends if count >= self.synced]


def script(seed: int, count: int) -> list[list[JournalRecord]]:
    random = Random(seed)
    batches: list[list[JournalRecord]] = []
    floors = {0: 1, 1: 1}
    for step in range(count):
        group = random.randrange(2)
        batch: list[JournalRecord] = []
        for _ in range(random.randint(1, 2)):
            choice = random.random()
            if choice < 0.2:
                batch.append(PromiseMade(group, Ballot(step, 12, 1)))
            elif choice < 0.45:
                floors[group] += random.randrange(4)
                batch.append(VoteFloorSet(group, floors[group]))
            else:
                instance_id = floors[group] + random.randrange(6)
                value = random.randbytes(random.choice((10, 60, 700)))
                batch.append(VoteCast(group, instance_id, Ballot(step, 11, 1), value))
        batches.append(batch)
    return batches


def run(disk: SimulatedDisk, batches: list[list[JournalRecord]], model: Model) -> None:
    journal, _ = open_journal(disk, "acceptor", settings=TINY)
    for number, batch in enumerate(batches):
        model.appended += batch
        journal.append(batch)
        if number % 2 == 1:
            journal.sync()
            model.synced = len(model.appended)
    journal.close()
    model.synced = len(model.appended)


def counts(batches: list[list[JournalRecord]]) -> list[int]:
    ends = [0]
    for batch in batches:
        ends.append(ends[-1] + len(batch))
    return ends


def test_a_crash_at_each_operation_loses_nothing_that_was_synced():
    batches = script(seed=1, count=18)
    model = Model()

    def scenario(disk: SimulatedDisk) -> None:
        nonlocal model
        model = Model()
        run(disk, batches, model)

    rolled = 0
    for operation, crashed in crashes(journal_disk(), scenario):
        allowed = model.states(counts(batches))
        rolled = max(rolled, len(crashed.list("acceptor/journal")))
        for what, disk in aftermaths(crashed, range(4)):
            journal, state = open_journal(disk, "acceptor", settings=TINY)
            assert state in allowed, f"operation {operation}, {what}"
            # It goes on from there, and a loss of power takes nothing of what it told.
            journal.append([VoteCast(1, 99, BALLOT, b"after")])
            journal.sync()
            disk.power_loss(Random(operation))
            state.apply(VoteCast(1, 99, BALLOT, b"after"))
            assert open_journal(disk, "acceptor")[1] == state, f"operation {operation}, {what}"
    assert rolled >= 3, "the script must roll files"


def test_a_crash_at_each_operation_of_an_opening_loses_nothing():
    model = Model()
    batches = script(seed=2, count=16)
    start = journal_disk()
    journal, _ = open_journal(start, "acceptor", settings=TINY)
    for batch in batches:
        model.appended += batch
        journal.append(batch)
        journal.sync()
    journal.append([VoteCast(1, 50, BALLOT, bytes(700))])
    start.kill()
    with_last = fold([*model.appended, VoteCast(1, 50, BALLOT, bytes(700))])
    without = fold(model.appended)

    def scenario(disk: SimulatedDisk) -> None:
        open_journal(disk, "acceptor", settings=TINY)

    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(8)):
            _, state = open_journal(disk, "acceptor", settings=TINY)
            assert state in (with_last, without), f"operation {operation}, {what}"
            disk.power_loss(Random(operation))
            assert open_journal(disk, "acceptor")[1] == state, f"operation {operation}, {what}"


def test_a_crash_at_each_operation_of_creating_leaves_no_journal_or_a_whole_one():
    start = SimulatedDisk()
    start.make_folder("acceptor/journal")

    def scenario(disk: SimulatedDisk) -> None:
        create_journal(disk, "acceptor", journal_opening())

    for operation, crashed in crashes(start, scenario):
        for what, disk in aftermaths(crashed, range(8)):
            try:
                _, state = open_journal(disk.snapshot(), "acceptor")
            except DamageError:
                create_journal(disk, "acceptor", journal_opening())
                _, state = open_journal(disk, "acceptor")
            assert state == fold([]), f"operation {operation}, {what}"


ballots = st.builds(Ballot, st.integers(0, 50), st.just(1), st.just(1))
records = st.one_of(
    st.builds(PromiseMade, st.integers(0, 1), ballots),
    st.builds(VoteFloorSet, st.integers(0, 1), st.integers(1, 30)),
    st.builds(LeaseLengthened, st.integers(0, 1), st.integers(1, 5_000)),
    st.builds(
        VoteCast,
        st.integers(0, 1),
        st.integers(1, 40),
        ballots,
        st.one_of(st.binary(max_size=40), st.sampled_from((bytes(600), bytes(1_500)))),
    ),
)
steps = st.lists(
    st.one_of(
        st.lists(records, min_size=1, max_size=3),
        st.just("sync"),
        st.just("kill"),
        st.tuples(st.just("power"), st.integers(0, 2**32)),
        st.tuples(st.just("crash"), st.integers(0, 12), st.booleans(), st.integers(0, 2**32)),
        st.just("eio"),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_any_records_and_any_crashes_leave_whole_appends_with_all_that_was_synced(steps):
    disk = journal_disk()
    journal, state = open_journal(disk, "acceptor", settings=TINY)
    base: list[JournalRecord] = []
    appends = [0]
    synced = 0

    def reopen() -> None:
        nonlocal journal, state, appends, synced, base
        for _ in range(40):
            try:
                journal, state = open_journal(disk, "acceptor", settings=TINY)
                break
            except (CrashedError, StorageError):
                disk.crash_at(None)
                disk.kill()
        allowed = [count for count in appends if count >= synced]
        found = [count for count in allowed if fold(base[:count]) == state]
        assert found, "neither lost nor made up"
        base = base[: found[-1]]
        appends, synced = [len(base)], len(base)

    for step in steps:
        try:
            if isinstance(step, list):
                base += step
                appends.append(len(base))
                journal.append(step)
            elif step == "sync":
                journal.sync()
                synced = len(base)
            elif step == "kill":
                disk.kill()
                reopen()
            elif step == "eio":
                disk.fail_next_sync("acceptor")
            elif step[0] == "power":
                disk.power_loss(Random(step[1]))
                reopen()
            else:
                disk.crash_at(disk.operations + step[1])
        except CrashedError:
            disk.crash_at(None)
            disk.kill()
            reopen()
        except StorageError:
            with pytest.raises(StorageError):
                journal.sync()
            # A process that stopped for this is killed in the end, or the power goes first.
            disk.kill() if len(base) % 2 else disk.power_loss(Random(len(base)))
            reopen()
    disk.crash_at(None)
    disk.power_loss(Random(0))
    reopen()
