"""Opening a member's roles, and what their stores promise to the shells that use them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.core.records import PromiseMade, Record, VoteCast
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.settings import (
    AcceptorSettings,
    CheckpointerSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.core.tasks import (
    MergeSegments,
    Outcome,
    PublishMerged,
    ReadSegments,
    SegmentsRead,
    TaskDone,
    TaskFailed,
)
from ray_paxos.errors import (
    DamageError,
    FolderHeldError,
    ForeignFolderError,
    NotActivatedError,
    StorageError,
    StorageFullError,
)
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.folder import stage_member
from ray_paxos.storage.identity import ROLE_FOLDERS
from ray_paxos.storage.opening import (
    OpenedRole,
    open_acceptor,
    open_checkpointer,
    open_learner,
    open_proposer,
)
from ray_paxos.testing.codec import PlainCodec, PlainTables
from ray_paxos.testing.disk import CrashedError, SimulatedDisk
from tests.storage.crashing import aftermaths, crashes
from tests.storage.support import (
    BALLOT,
    GENESIS,
    MEMBER_ID,
    acceptor_state,
    learner_of,
    make_genesis,
    make_instances,
    make_seals,
    member_disk,
)

LOG = "learner/log/group=1"


def acceptor(disk: Disk, genesis=GENESIS) -> OpenedRole:
    return open_acceptor(disk, genesis, MEMBER_ID, settings=AcceptorSettings(), clock=lambda: 0)


def proposer(disk: Disk, genesis=GENESIS) -> OpenedRole:
    return open_proposer(
        disk, genesis, MEMBER_ID, settings=ProposerSettings(), random=Random(1), now_ns=0
    )


def learner(disk: Disk, genesis=GENESIS) -> OpenedRole:
    return open_learner(
        disk,
        genesis,
        MEMBER_ID,
        settings=LearnerSettings(),
        codec=PlainCodec(),
        tables=PlainTables(),
        registry=MachineRegistry(),
        random=Random(1),
        now_ns=0,
    )


def checkpointer(disk: Disk, genesis=GENESIS) -> OpenedRole:
    return open_checkpointer(
        disk,
        genesis,
        MEMBER_ID,
        settings=CheckpointerSettings(),
        codec=PlainCodec(),
        tables=PlainTables(),
        registry=MachineRegistry(),
        now_ns=0,
    )


def read(opened: OpenedRole, group: int, first: int) -> Outcome:
    reader = Address(12, RoleName.LEARNER)
    return opened.store.run(ReadSegments(group, reader, first, 10**9))


OPENINGS: dict[RoleName, Callable[..., OpenedRole]] = {
    RoleName.PROPOSER: proposer,
    RoleName.ACCEPTOR: acceptor,
    RoleName.LEARNER: learner,
    RoleName.CHECKPOINTER: checkpointer,
}


@pytest.fixture(params=list(OPENINGS), ids=lambda role: role.name.lower())
def role(request):
    return request.param


def test_all_roles_of_a_member_open_beside_each_other_and_again_after_closing():
    disk = member_disk()
    for life in (1, 2):
        opened = [open_role(disk.process()) for open_role in OPENINGS.values()]
        assert [each.incarnation for each in opened] == [life] * 4
        for each in opened:
            each.store.close()
            each.store.close()


def test_a_role_is_opened_by_one_process_at_a_time(role):
    disk = member_disk()
    opened = OPENINGS[role](disk)
    with pytest.raises(FolderHeldError):
        OPENINGS[role](disk.process())
    opened.store.close()
    OPENINGS[role](disk.process())


def test_a_role_of_another_cluster_is_refused(role):
    disk = member_disk()
    before = disk.files()
    with pytest.raises(ForeignFolderError):
        OPENINGS[role](disk, make_genesis("other"))
    assert disk.files() == before


def test_a_role_of_a_staged_member_is_refused(role):
    disk = SimulatedDisk()
    stage_member(disk, GENESIS, MEMBER_ID)
    before = disk.files()
    with pytest.raises(NotActivatedError):
        OPENINGS[role](disk)
    assert disk.files() == before


def test_an_opening_never_makes_what_is_missing(role):
    folder = ROLE_FOLDERS[role]
    for lost in (folder, f"{folder}/lock", f"{folder}/incarnation", "identity.json"):
        disk = member_disk()
        disk.remove(lost)
        before = disk.files()
        with pytest.raises(DamageError, match="missing"):
            OPENINGS[role](disk)
        assert disk.files() == before


def test_an_opening_that_fails_can_be_tried_again(role):
    disk = member_disk()
    for _ in range(30):
        disk.fail_next_sync("")
        with pytest.raises(StorageError):
            OPENINGS[role](disk)
        OPENINGS[role](disk).store.close()


def test_a_crash_at_each_operation_of_an_opening_does_not_hinder_the_next(role):
    def scenario(disk: SimulatedDisk) -> None:
        OPENINGS[role](disk)

    for operation, crashed in crashes(member_disk(), scenario):
        for _, disk in aftermaths(crashed, range(3)):
            first = OPENINGS[role](disk).incarnation
            disk.power_loss(Random(operation))
            assert OPENINGS[role](disk).incarnation > first


# The acceptor's store.


def test_an_acceptor_finds_its_promises_and_votes_again():
    disk = member_disk()
    opened = acceptor(disk)
    assert opened.store.reserve(1_000)
    opened.store.write([PromiseMade(1, Ballot(4, 12, 1)), VoteCast(1, 3, Ballot(4, 12, 1), b"v")])
    opened.store.sync()
    disk.power_loss(Random(1))
    votes = acceptor_state(acceptor(disk)).groups[1]
    assert votes.promise == Ballot(4, 12, 1)
    assert votes.votes[3].value == b"v"


def test_a_store_that_failed_once_refuses_everything():
    disk = member_disk()
    opened = acceptor(disk)
    opened.store.write([PromiseMade(1, BALLOT)])
    disk.fail_next_sync("journal")
    with pytest.raises(StorageError):
        opened.store.sync()
    for _ in range(2):
        with pytest.raises(StorageError):
            opened.store.sync()
        with pytest.raises(StorageError):
            opened.store.write([PromiseMade(1, BALLOT)])
    opened.store.close()
    assert acceptor(disk).incarnation == 2


def test_a_learner_store_that_failed_once_refuses_everything():
    disk = member_disk()
    opened = learner(disk)
    first, second = make_seals(2, 2)
    opened.store.write([first])
    disk.fail_next_sync(LOG)
    with pytest.raises(StorageError, match="Input/output"):
        opened.store.sync()
    for _ in range(2):
        with pytest.raises(StorageError):
            opened.store.sync()
        with pytest.raises(StorageError):
            opened.store.write([second])
    opened.store.close()
    assert learner_of(learner(disk)).durable_through == 0


def test_a_closed_store_refuses_everything(role):
    opened = OPENINGS[role](member_disk())
    opened.store.close()
    failed = opened.store.run(MergeSegments(1, 1, 2))
    assert isinstance(failed, TaskFailed)
    records: dict[RoleName, Record] = {
        RoleName.ACCEPTOR: PromiseMade(1, BALLOT),
        RoleName.LEARNER: make_seals(2)[0],
    }
    if role not in records:
        return
    record = records[role]
    with pytest.raises(StorageError):
        opened.store.write([record])
    with pytest.raises(StorageError):
        opened.store.sync()


# Learner and checkpointer.


def test_a_learner_applies_what_is_sealed_and_its_checkpointer_reads_it():
    disk = member_disk()
    opened = learner(disk)
    opened.store.write(make_seals(2, 3))
    opened.store.sync()
    disk.power_loss(Random(1))
    role = learner_of(learner(disk))
    assert (role.durable_through, role.applied_through) == (5, 5)
    checkpointing = checkpointer(disk.process())
    values = tuple(instance.chosen for instance in make_instances(5)[1:])
    assert read(checkpointing, 1, 2) == SegmentsRead(values, 1)
    assert read(checkpointing, 0, 1) == SegmentsRead((), 1)


def test_a_merge_goes_from_the_checkpointer_to_the_learner():
    disk = member_disk()
    learning, checkpointing = learner(disk), checkpointer(disk.process())
    learning.store.write(make_seals(2, 3, 4))
    learning.store.sync()
    assert checkpointing.store.run(MergeSegments(1, 1, 9)) == TaskDone()
    assert learning.store.run(PublishMerged(1, 1, 9)) == TaskDone()
    assert len(disk.list(LOG)) == 1
    disk.power_loss(Random(1))
    role = learner_of(learner(disk))
    assert role.durable_through == 9


def test_a_damaged_log_is_set_aside_and_its_group_goes_on_as_the_others_do():
    disk = member_disk()
    opened = learner(disk)
    opened.store.write([make_seals(3, group=0)[0], make_seals(3, group=1)[0]])
    opened.store.sync()
    (name,) = disk.list(LOG)
    disk.flip_bit(f"{LOG}/{name}", 100)
    disk.kill()
    opened = learner(disk)
    assert isinstance(opened.role, GroupRouter)
    assert list(opened.role.roles) == [0, 1]
    assert opened.stopped_groups == {}
    assert [learner_of(opened, group).durable_through for group in (0, 1)] == [3, 0]
    assert learner_of(opened, 0).alarms == ()
    assert any(name in alarm for alarm in learner_of(opened, 1).alarms)
    assert disk.list("learner/set_aside/group=1") == [f"damaged-{name}"]
    checkpointing = checkpointer(disk.process())
    assert read(checkpointing, 1, 1) == SegmentsRead((), 1)
    whole = read(checkpointing, 0, 1)
    assert isinstance(whole, SegmentsRead)
    assert len(whole.values) == 3


def test_a_segment_that_goes_bad_is_given_to_nobody_and_stops_no_other_group():
    disk = member_disk()
    opened = learner(disk)
    opened.store.write([make_seals(3, group=0)[0], make_seals(3, group=1)[0]])
    opened.store.sync()
    checkpointing = checkpointer(disk.process())
    (name,) = disk.list(LOG)
    disk.flip_bit(f"{LOG}/{name}", 100)
    failed = read(checkpointing, 1, 1)
    assert isinstance(failed, TaskFailed)
    assert failed.is_damage
    assert name in failed.why
    whole = read(checkpointing, 0, 1)
    assert isinstance(whole, SegmentsRead)
    assert len(whole.values) == 3


def test_a_group_whose_folder_is_missing_stops_alone():
    disk = member_disk()
    disk.remove(LOG)
    opened = learner(disk)
    assert isinstance(opened.role, GroupRouter)
    assert list(opened.role.roles) == [0]
    assert LOG in opened.stopped_groups[1]


def test_a_member_whose_logs_are_all_damaged_does_not_open():
    disk = member_disk()
    disk.remove("learner/log")
    with pytest.raises(DamageError):
        learner(disk)
    with pytest.raises(DamageError):
        learner(disk)


def test_a_merge_that_fails_is_told_and_stops_nothing():
    disk = member_disk()
    learning, checkpointing = learner(disk), checkpointer(disk.process())
    learning.store.write([*make_seals(2, 2, group=0), *make_seals(2, 2, group=1)])
    learning.store.sync()
    disk.flip_bit(f"{LOG}/{disk.list(LOG)[0]}", 100)
    failed = checkpointing.store.run(MergeSegments(1, 1, 4))
    assert isinstance(failed, TaskFailed)
    assert failed.is_damage
    assert checkpointing.store.run(MergeSegments(0, 1, 4)) == TaskDone()
    failed = learning.store.run(PublishMerged(1, 1, 4))
    assert isinstance(failed, TaskFailed)
    assert not failed.is_damage
    assert learning.store.run(PublishMerged(0, 1, 4)) == TaskDone()
    assert len(disk.list("learner/log/group=0")) == 1
    assert len(disk.list(LOG)) == 2


def test_a_learner_without_room_tries_the_same_write_again():
    disk = member_disk()
    opened = learner(disk)
    first, second, third = make_seals(2, 2, 2)
    opened.store.write([first])
    disk.set_capacity(sum(map(len, disk.files().values())) + len(first.instances) * 150)
    with pytest.raises(StorageFullError, match="make room"):
        opened.store.write([second, third])
    opened.store.sync()
    with pytest.raises(StorageFullError):
        opened.store.write([second, third])
    disk.set_capacity(None)
    opened.store.write([second, third])
    opened.store.sync()
    disk.power_loss(Random(1))
    assert learner_of(learner(disk)).durable_through == 6


def test_a_whole_member_crashes_at_random_and_forgets_nothing():
    for seed in range(25):
        random = Random(seed)
        disk = member_disk()
        seals = make_seals(*[1] * 12)
        done = 0
        while done < len(seals):
            disk.crash_at(disk.operations + random.randrange(1, 60))
            try:
                learning, checkpointing = learner(disk.process()), checkpointer(disk.process())
                found = learner_of(learning).durable_through
                assert found >= done
                done = found
                while done < len(seals):
                    learning.store.write([seals[done]])
                    learning.store.sync()
                    done += 1
                    if done % 3 == 0:
                        checkpointing.store.run(MergeSegments(1, 1, done))
                        learning.store.run(PublishMerged(1, 1, done))
            except CrashedError:
                pass
            disk.crash_at(None)
            disk.power_loss(random)
        values = tuple(instance.chosen for instance in make_instances(12))
        assert read(checkpointer(disk), 1, 1) == SegmentsRead(values, 1)


def test_an_acceptor_reads_the_clock_once_it_holds_its_folder() -> None:
    # What it must not promise yet counts from there: until then an earlier life may go on granting.
    disk = member_disk()
    read: list[bool] = []

    def clock() -> int:
        with pytest.raises(FolderHeldError):
            acceptor(disk)
        read.append(True)
        return 0

    settings = AcceptorSettings()
    opened = open_acceptor(disk, GENESIS, MEMBER_ID, settings=settings, clock=clock)
    assert read == [True]
    opened.store.close()
